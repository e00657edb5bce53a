// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// exitStopped is the exit code of a run that the host stopped, as timeout(1)
// has it.
const exitStopped = 124

// Main is the first process of the machine. It does not return: a first
// process that ends is a kernel panic.
func Main() {
	a, err := newAgent()
	if err == nil {
		a.work()
	}
	// Without ports there is nobody to tell but the console.
	fmt.Fprintln(os.Stderr, "lab: first process:", err)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// An agent is the first process.
type agent struct {
	ports   map[string]*port
	stopped atomic.Bool
}

// newAgent makes the machine fit to work in and opens the ports.
func newAgent() (*agent, error) {
	if err := mountAll(); err != nil {
		return nil, err
	}
	names, err := portDevices("/sys/class/virtio-ports")
	if err != nil {
		return nil, err
	}
	a := &agent{ports: map[string]*port{}}
	for _, name := range []string{PortStdout, PortStderr, PortControl, PortResults} {
		f, err := os.OpenFile(names[name], os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("open port %s: %w", name, err)
		}
		a.ports[name] = &port{f: f}
	}
	return a, nil
}

// work runs the plan, reports, and waits to be switched off.
func (a *agent) work() {
	a.report(Event{Kind: Booted})
	go a.obey()
	plan, err := readPlan()
	if err == nil {
		err = setUp(plan)
	}
	if err != nil {
		a.report(Event{Kind: Failed, Text: err.Error()})
	} else {
		a.report(Event{Kind: Started})
		code, err := a.runScript(plan)
		if err != nil {
			a.report(Event{Kind: Failed, Text: err.Error()})
		} else {
			a.reportExit(code)
		}
	}
	select {}
}

// report sends an event. If the host is gone there is nothing left to do.
func (a *agent) report(e Event) {
	fmt.Fprintln(a.ports[PortControl], e)
}

// reportExit sends the results and then the exit code, with the lengths of the streams.
func (a *agent) reportExit(code int) {
	if err := writeResults(a.ports[PortResults]); err != nil {
		fmt.Fprintf(a.ports[PortStderr], "lab: collect results: %v\n", err)
	}
	a.report(Event{
		Kind: Exited, Code: code,
		Stdout: a.ports[PortStdout].n.Load(), Stderr: a.ports[PortStderr].n.Load(),
	})
}

// obey waits for the host's request to stop, has the kernel log what hangs, and
// ends all other processes.
func (a *agent) obey() {
	lines := bufio.NewScanner(a.ports[PortControl].f)
	for lines.Scan() {
		if lines.Text() != StopRequest {
			continue
		}
		a.stopped.Store(true)
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("w"), 0) // tasks that wait in the kernel
		killOthers()
	}
}

// killOthers ends every process but the first.
func killOthers() {
	_ = unix.Kill(-1, unix.SIGKILL)
}

// readPlan reads the plan that came with the payload.
func readPlan() (Plan, error) {
	var plan Plan
	text, err := os.ReadFile(PlanFile)
	if err != nil {
		return plan, err
	}
	return plan, json.Unmarshal(text, &plan)
}

// setUp loads modules and builds the topology. The scripts that do it log to a
// file, which is shown when they fail.
func setUp(plan Plan) error {
	log, err := os.Create(filepath.Join(Root, "setup.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	steps := [][]string{append([]string{"/bin/sh", Root + "/lib/load"}, plan.Params...)}
	if plan.Hypervisors > 0 {
		steps = append(steps, []string{"/bin/sh", Root + "/lib/topology", fmt.Sprint(plan.Hypervisors)})
	}
	for _, argv := range steps {
		code, err := run(process{argv: argv, env: environment(plan), dir: Root, files: stdio(log, log)})
		if err != nil {
			return err
		}
		if code != 0 {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("set up the lab: %s: exit code %d\n%s", argv[1], code, text)
		}
	}
	return nil
}

// environment returns the environment of the scripts: where the lab's commands are, and
// what the plan adds.
func environment(plan Plan) []string {
	env := []string{
		"PATH=/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb", "LAB_OUT=" + OutDir,
		fmt.Sprintf("LAB_HYPERVISORS=%d", plan.Hypervisors),
	}
	if plan.Terminal != nil {
		env = append(env, "TERM="+plan.Terminal.Term)
	}
	return append(env, plan.Env...)
}

// runScript runs the plan's script with its output going to the ports, or on
// the terminal, and ends what it left running.
func (a *agent) runScript(plan Plan) (int, error) {
	p := process{argv: plan.Argv, env: environment(plan), dir: WorkDir}
	if plan.Terminal != nil {
		return runOnTerminal(p, *plan.Terminal)
	}
	out, drainedOut, err := pipeTo(a.ports[PortStdout])
	if err != nil {
		return 0, err
	}
	stderr, drainedErr, err := pipeTo(a.ports[PortStderr])
	if err != nil {
		return 0, err
	}
	p.files = stdio(out, stderr)
	code, err := run(p)
	out.Close()
	stderr.Close()
	killOthers() // else a daemon that the script left would keep the pipes open
	drainedOut.Wait()
	drainedErr.Wait()
	if a.stopped.Load() {
		code = exitStopped
	}
	return code, err
}

// pipeTo gives a pipe that is copied to a port. A program that opens
// /dev/stdout anew can open a pipe; the port it could not, as a port has one
// opener at a time.
func pipeTo(p *port) (*os.File, *sync.WaitGroup, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	var drained sync.WaitGroup
	drained.Go(func() {
		defer r.Close()
		_, _ = io.Copy(p, r) // ends when the host is gone, or nobody can write any more
	})
	return w, &drained, nil
}

// A port is a virtio-serial port. It is written without blocking in the
// kernel, where a blocked writer would spin with interrupts off; that is why
// the host must be told how much is under way.
type port struct {
	f *os.File
	n atomic.Int64
}

// Write sends b and counts it.
func (p *port) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.n.Add(int64(n))
	return n, err
}

// portDevices maps the names of the virtio-serial ports to their devices. The
// driver learns the names from the host, hence the patience.
func portDevices(dir string) (map[string]string, error) {
	for range 500 {
		names := map[string]string{}
		found, _ := filepath.Glob(dir + "/*/name")
		for _, f := range found {
			name, err := os.ReadFile(f)
			if err == nil {
				names[strings.TrimSpace(string(name))] = "/dev/" + filepath.Base(filepath.Dir(f))
			}
		}
		if names[PortStdout] != "" && names[PortStderr] != "" && names[PortControl] != "" && names[PortResults] != "" {
			return names, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("find the virtio-serial ports: they did not appear within 5 s")
}

// writeResults sends the kernel's log and what lies in OutDir as an archive.
func writeResults(w io.Writer) error {
	buf := bufio.NewWriterSize(w, 1<<16)
	archive := tar.NewWriter(buf)
	log := kernelLog()
	if err := archive.WriteHeader(&tar.Header{Name: KernelLogName, Mode: 0o644, Size: int64(len(log))}); err != nil {
		return err
	}
	if _, err := archive.Write(log); err != nil {
		return err
	}
	if err := addTree(archive, OutDir, OutPrefix); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return buf.Flush()
}

// addTree adds the directories and regular files below dir.
func addTree(archive *tar.Writer, dir, prefix string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir || !(d.IsDir() || d.Type().IsRegular()) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		header.Name = prefix + strings.TrimPrefix(path, dir+"/")
		if err := archive.WriteHeader(header); err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyN(archive, f, header.Size)
		return err
	})
}

// kernelLog returns the kernel's ring buffer.
func kernelLog() []byte {
	const readAll, size = 3, 10 // SYSLOG_ACTION_READ_ALL, SYSLOG_ACTION_SIZE_BUFFER
	n, err := unix.Klogctl(size, nil)
	if err != nil {
		return nil
	}
	buf := make([]byte, n)
	n, err = unix.Klogctl(readAll, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}
