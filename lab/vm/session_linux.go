// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/guest"
)

// A session is one machine, from QEMU's start to its end.
type session struct {
	o       Options
	qemu    *process
	ports   map[int]*os.File // our ends, by QEMU's file descriptor
	control io.Writer        // to the machine
	console *tail            // what came over the serial line
	stdout  *stream
	stderr  *stream
	results *results
	events  chan guest.Event
	closed  chan struct{}
	begin   time.Time

	consoleDone chan struct{}
}

// start starts QEMU with the payload as its second disk.
func start(o Options, payload *os.File) (*session, error) {
	s := &session{
		o: o, ports: map[int]*os.File{}, console: &tail{limit: 4 << 20},
		stdout: newStream(o.Stdout), stderr: newStream(o.Stderr),
		events: make(chan guest.Event), closed: make(chan struct{}), begin: time.Now(),
		consoleDone: make(chan struct{}),
	}
	theirs := []*os.File{payload}
	for fd := fdSerial; fd <= fdResults; fd++ {
		our, their, err := socketPair()
		if err != nil {
			s.closePorts()
			return nil, err
		}
		s.ports[fd] = our
		theirs = append(theirs, their)
	}
	terminal := o.Plan.Terminal != nil
	qemu, err := startProcess(qemuArgs(o.Machine, terminal), theirs, terminal)
	for _, f := range theirs[1:] {
		f.Close()
	}
	if err != nil {
		s.closePorts()
		return nil, err
	}
	s.qemu, s.control = qemu, s.ports[fdControl]
	s.listen()
	return s, nil
}

// listen starts what reads the machine's ports.
func (s *session) listen() {
	go func() {
		_, _ = io.Copy(s.console, s.ports[fdSerial])
		close(s.consoleDone)
	}()
	go s.stdout.copy(s.ports[fdStdout])
	go s.stderr.copy(s.ports[fdStderr])
	s.results = receiveResults(s.ports[fdResults], s.o.OutDir)
	go func() {
		lines := bufio.NewScanner(s.ports[fdControl])
		for lines.Scan() {
			e, err := guest.ParseEvent(lines.Text())
			if err != nil {
				e = guest.Event{Kind: guest.Failed, Text: err.Error()}
			}
			select {
			case s.events <- e:
			case <-s.closed:
				return
			}
		}
	}()
}

// running says how long the way to the script was.
func (s *session) running() {
	fmt.Fprintf(s.o.Log, "lab: machine up after %.1f s (%s)\n", time.Since(s.begin).Seconds(), s.o.Machine.Accel)
}

// stop asks the machine to end the script.
func (s *session) stop() error {
	_, err := fmt.Fprintln(s.control, guest.StopRequest)
	if err != nil {
		return fmt.Errorf("stop the machine: %w", err)
	}
	return nil
}

// drainConsole waits until the serial line has been read to its end; QEMU is
// dead, so the end is there.
func (s *session) drainConsole() {
	<-s.consoleDone
}

// kernelLog is the ring buffer if the machine lived to send it, else what came
// over the serial line.
func (s *session) kernelLog() string {
	select {
	case <-s.results.done:
		if s.results.kernelLog != "" {
			return s.results.kernelLog
		}
	default:
	}
	return s.console.String()
}

// close switches the machine off. Its disks are snapshots: there is nothing to
// lose.
func (s *session) close() {
	close(s.closed)
	s.qemu.kill()
	s.closePorts()
}

// closePorts closes our ends of the ports.
func (s *session) closePorts() {
	for _, f := range s.ports {
		f.Close()
	}
}

// socketPair returns a connected pair; the first end can be waited on.
func socketPair() (our, their *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "port"), os.NewFile(uintptr(fds[1]), "port of QEMU"), nil
}

// A process is a running QEMU.
type process struct {
	cmd    *exec.Cmd
	stderr *tail
	ended  chan struct{}
	err    error // valid when ended is closed
}

// startProcess starts QEMU, which dies when this program does. The kernel ties
// that to the thread that forked, so one thread is kept for it.
func startProcess(args []string, inherit []*os.File, terminal bool) (*process, error) {
	p := &process{cmd: exec.Command(QEMU, args...), stderr: &tail{limit: 1 << 16}, ended: make(chan struct{})}
	p.cmd.ExtraFiles = inherit
	p.cmd.Stderr = p.stderr
	if terminal {
		p.cmd.Stdin, p.cmd.Stdout = os.Stdin, os.Stdout
	}
	// Its own process group, except on a terminal that it must read from: an
	// interrupt comes to us, and we end it.
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: !terminal}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return p, nil
}

// kill ends QEMU and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}
