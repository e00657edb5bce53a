// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Place is where ovs-appctl looks for a program that it is given by name: the
// pid file NAME.pid in Open vSwitch's run directory, whose owner holds a record
// lock on it (lib/daemon-unix.c), and the socket NAME.PID.ctl beside it.
//
// The lock is the process's, and closing any descriptor of a locked file gives it
// up (fcntl(2)): in a process that may take a place nothing but its one Place
// must open the pid file.
type Place struct {
	dir, name string
	pid       int

	mu     sync.Mutex
	lock   *os.File    // the pid file; nil while the place is not taken
	socket os.FileInfo // of the socket that was made
}

// NewPlace returns the place of a program in a run directory. It is not taken.
func NewPlace(dir, name string) *Place { return &Place{dir: dir, name: name, pid: os.Getpid()} }

// TakenError says that another process has the place.
type TakenError struct {
	Path string // of the pid file
	PID  int
}

// Error names the process and the pid file.
func (e *TakenError) Error() string { return fmt.Sprintf("process %d holds %s", e.PID, e.Path) }

// PIDFile returns the path of the pid file.
func (p *Place) PIDFile() string { return filepath.Join(p.dir, p.name+".pid") }

func (p *Place) ctl() string { return filepath.Join(p.dir, fmt.Sprintf("%s.%d.ctl", p.name, p.pid)) }

// Take makes the socket, open to its owner only, and the pid file. What dead
// processes left there is removed. The error is a *TakenError when another
// process lives there.
func (p *Place) Take() (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.leave(); err != nil {
		return nil, fmt.Errorf("take place of %s: %w", p.name, err)
	}
	l, err := listen(p.ctl())
	if err != nil {
		return nil, fmt.Errorf("take place of %s: %w", p.name, err)
	}
	if p.socket, err = os.Lstat(p.ctl()); err == nil {
		p.lock, err = claim(p.PIDFile(), p.pid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take place of %s: %w", p.name, err), l.Close())
	}
	p.sweep()
	return l, nil
}

// Leave removes the pid file, if it is still this process's. The socket goes
// with its listener.
func (p *Place) Leave() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leave()
}

func (p *Place) leave() (err error) {
	if p.lock == nil {
		return nil
	}
	if p.own() {
		err = os.Remove(p.PIDFile())
	}
	err = errors.Join(err, p.lock.Close())
	p.lock, p.socket = nil, nil
	return err
}

// Stands tells whether ovs-appctl finds this process here.
func (p *Place) Stands() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lock == nil || !p.own() {
		return false
	}
	now, err := os.Lstat(p.ctl())
	return err == nil && os.SameFile(now, p.socket)
}

// own tells whether the pid file is the one that this process has locked.
func (p *Place) own() bool {
	ours, err := p.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(p.PIDFile())
	return err == nil && os.SameFile(ours, there)
}

// Other returns the process that has the place, and 0 when none or this one has.
func (p *Place) Other() (pid int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lock != nil && p.own() {
		return 0, nil
	}
	f, err := os.OpenFile(p.PIDFile(), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return 0, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if l.Type == unix.F_UNLCK {
		return 0, nil
	}
	return written(f), nil
}

// sweep removes the sockets of dead processes of that name: those that nobody
// answers on.
func (p *Place) sweep() {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return // they are in nobody's way
	}
	for _, e := range entries {
		path := filepath.Join(p.dir, e.Name())
		rest, is := strings.CutPrefix(e.Name(), p.name+".")
		if !is || !strings.HasSuffix(rest, ".ctl") || e.Type() != fs.ModeSocket || path == p.ctl() {
			continue
		}
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
		} else if errors.Is(err, unix.ECONNREFUSED) {
			_ = os.Remove(path)
		}
	}
}
