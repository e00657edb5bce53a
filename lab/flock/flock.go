// SPDX-License-Identifier: Apache-2.0

// Package flock gives advisory locks between processes (flock(2)), so that two
// runs of the lab neither build the same image at once nor boot two machines
// on a host that has processors for one.
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Lock is held until Close, or until the process ends, however it ends.
type Lock struct {
	f *os.File
}

// Acquire takes the lock file at path, creating it if need be. If somebody else
// holds the lock, waiting is called once before Acquire blocks, until the lock is
// free or ctx ends.
func Acquire(ctx context.Context, path string, waiting func()) (*Lock, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	err = lock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		waiting()
		err = wait(ctx, f)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f: f}, nil
}

// wait blocks for the lock. Nothing wakes a flock(2) that waits, so when ctx ends
// it is left behind with the file, to let go of the lock as soon as it has it.
func wait(ctx context.Context, f *os.File) error {
	got := make(chan error, 1)
	go func() { got <- lock(f, unix.LOCK_EX) }()
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		go func() { <-got; f.Close() }()
		return ctx.Err()
	}
}

// Close gives the lock back. The file stays: removing it would let two
// holders lock two files of the same name.
func (l *Lock) Close() error {
	return l.f.Close()
}

// open first tries without O_CREAT: in a sticky directory the kernel refuses
// O_CREAT on a file of another owner (sysctl fs.protected_regular), and the
// machine-wide lock lies in /tmp.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return os.OpenFile(path, os.O_RDONLY, 0)
	}
	return f, err
}

func lock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
