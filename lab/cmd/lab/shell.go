// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/guest"
	"ovs-ipsec-offload/lab/vm"
)

// shellLimit ends a shell that somebody forgot.
const shellLimit = 12 * time.Hour

// newShell returns the verb shell.
func newShell(source *string, code *int) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "shell [flags]",
		Short: "Give an interactive shell in the machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			*code, err = f.shell(cmd.Context(), *source)
			return err
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.bare, "bare", false, "no topology, only the module")
	cmd.Flags().IntVar(&f.hypervisors, "hypervisors", 2, "size of the topology, 2 to 8")
	cmd.Flags().BoolVar(&f.noDaemon, "no-daemon", false, "do not compile the daemon; it is not on PATH")
	cmd.Flags().StringVar(&f.daemonTags, "daemon-tags", "", "build `TAGS` of the daemon: faultpoint")
	return cmd
}

// shell boots a machine and gives its shell the terminal until it ends.
func (f *runFlags) shell(ctx context.Context, source string) (int, error) {
	if f.bare {
		f.hypervisors = 0
	}
	stdin := int(os.Stdin.Fd())
	saved, err := unix.IoctlGetTermios(stdin, unix.TCGETS)
	if err != nil {
		return 0, fmt.Errorf("open shell: standard input is no terminal: %w", err)
	}
	// No login shell: /etc/profile would set PATH anew, without the lab's commands.
	o, err := f.options(ctx, source, []string{"bash", "-i"})
	if err != nil {
		return 0, err
	}
	if !f.noDaemon {
		daemon, err := buildDaemon(ctx, source, f.daemonTags, os.Stderr)
		if err != nil {
			return 0, err
		}
		o.Files = append(o.Files, daemon...)
	}
	o.Plan.Terminal = terminal(stdin, os.Getenv("TERM"))
	o.Limits = vm.DefaultLimits(f.hypervisors, shellLimit)
	// QEMU puts the terminal into raw mode and, being killed, leaves it so.
	defer func() { _ = unix.IoctlSetTermios(stdin, unix.TCSETS, saved) }()
	return boot(ctx, o)
}

// terminal describes the host's terminal to the machine.
func terminal(fd int, term string) *guest.Terminal {
	t := &guest.Terminal{Term: term, Rows: 24, Cols: 80}
	if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil && size.Row > 0 {
		t.Rows, t.Cols = size.Row, size.Col
	}
	return t
}
