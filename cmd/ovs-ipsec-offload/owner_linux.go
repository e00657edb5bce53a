// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/plugin"
)

// rivalPIDFile is ovs-monitor-ipsec's, in Open vSwitch's run directory. Like every
// daemon of Open vSwitch it holds a lock on it as long as it lives
// (python/ovs/daemon.py).
const rivalPIDFile = "ovs-monitor-ipsec.pid"

// rival returns the problem that ovs-monitor-ipsec runs, or nil. dir is Open
// vSwitch's run directory.
func rival(dir string) (*plugin.Problem, error) {
	f, err := os.OpenFile(filepath.Join(dir, rivalPIDFile), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("look for ovs-monitor-ipsec: %w", err)
	}
	defer f.Close()
	held, err := locked(f)
	if err != nil {
		return nil, fmt.Errorf("look for ovs-monitor-ipsec: %s: %w", f.Name(), err)
	}
	if !held {
		return nil, nil
	}
	pid, _ := io.ReadAll(io.LimitReader(f, 20)) // only for the message
	return &plugin.Problem{Code: "OWNER_RIVAL", Text: fmt.Sprintf(
		"ovs-monitor-ipsec runs (process %s holds %s), and both would make states and policies for the same tunnels: "+
			"`systemctl disable --now openvswitch-ipsec.service`", strings.TrimSpace(string(pid)), f.Name())}, nil
}

// locked tells whether another process holds a record lock on f (fcntl(2), F_GETLK).
func locked(f *os.File) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return false, err
	}
	return l.Type != unix.F_UNLCK, nil
}

// runDir returns Open vSwitch's run directory: where the socket of its database is.
func (h *host) runDir() string { return runDirOf(h.cfg.OVSDB) }

func runDirOf(endpoint string) string {
	if path, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		return filepath.Dir(path)
	}
	return "/run/openvswitch"
}

// alone refuses a host on which ovs-monitor-ipsec runs.
func alone(endpoint string) error {
	p, err := rival(runDirOf(endpoint))
	if err != nil {
		return err
	}
	if p != nil {
		return fmt.Errorf("start: %w", p)
	}
	return nil
}

// rivals looks who else is at work, for every round.
func (h *host) rivals() []plugin.Problem {
	p, err := rival(h.runDir())
	if err != nil {
		h.log.Debug(err.Error())
	}
	if p == nil {
		return nil
	}
	return []plugin.Problem{*p}
}
