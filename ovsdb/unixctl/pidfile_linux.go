// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// claims is how often a pid file may change under our hands before we give up.
const claims = 5

// claim makes a pid file and locks it. It is written under another name, so that
// nobody ever sees one that is empty or not locked, and gets its name by link(2),
// which takes nobody else's away.
func claim(path string, pid int) (*os.File, error) {
	temp := fmt.Sprintf("%s.tmp%d", path, pid)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	if _, err = fmt.Fprintln(f, pid); err == nil {
		err = lock(f)
	}
	if err == nil {
		err = name(temp, path)
	}
	if err = errors.Join(err, os.Remove(temp)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// name gives temp its name, once nobody alive has it.
func name(temp, path string) error {
	for range claims {
		err := os.Link(temp, path)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := discard(path); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s comes and goes", path)
}

// discard removes a pid file that no process has locked. Who removes it has it
// locked: so does every daemon of Open vSwitch, and none removes another's.
func discard(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f); errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return &TakenError{Path: path, PID: written(f)}
	} else if err != nil {
		return err
	}
	locked, err := f.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(path); err != nil || !os.SameFile(there, locked) {
		return nil // somebody was faster; look again
	}
	return os.Remove(path)
}

// lock takes a record lock on the whole file, as lib/daemon-unix.c does.
func lock(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// written returns the pid in a pid file, -1 if there is none.
func written(f *os.File) int {
	text, err := io.ReadAll(io.LimitReader(f, 20))
	if err != nil {
		return -1
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 0 {
		return -1
	}
	return pid
}

// listen makes a socket that is open to its owner only. One that is there is left
// over: its name holds the pid of this process.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
