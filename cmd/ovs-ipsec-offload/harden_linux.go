// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps key material out of core dumps, debuggers and other users'
// reach: prctl(2) PR_SET_DUMPABLE, getrlimit(2) RLIMIT_CORE, umask(2).
func harden() error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps and tracing: %w", err)
	}
	return nil
}

// keepInMemory keeps the process out of the swap. It is an extra: keys are in
// memory for moments only, and a container may forbid it.
//
// The limit is lifted first, since with MCL_FUTURE a limit that is reached makes
// every later mmap fail. MCL_ONFAULT locks what is used, not the address space
// that the Go runtime reserves.
func keepInMemory() error {
	all := &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, all); err != nil {
		return fmt.Errorf("lift RLIMIT_MEMLOCK: %w", err)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	return nil
}
