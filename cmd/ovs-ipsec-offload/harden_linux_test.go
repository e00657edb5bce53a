// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// hardened prints how a hardened process stands.
func hardened() {
	if err := harden(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		fmt.Println(err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("RLIMIT_CORE %d %d\nPR_GET_DUMPABLE %d\numask %04o\n", core.Cur, core.Max, dumpable, unix.Umask(0o077))
}
