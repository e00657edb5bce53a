// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
	"ovs-ipsec-offload/plugin/saved"
)

// guardFlags are the flags of "guard" beside the settings.
type guardFlags struct {
	timeout time.Duration
	dryRun  bool
}

func newGuard() *cobra.Command {
	var f guardFlags
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "Stand the guards of the last boot up, without daemon and database",
		Long: `Stand up the guards that the daemon saved in state_dir, the bypasses of plain
pairs in front of them, and with guard=auto a guard for every address of a NIC
that can offload. It needs no database, no keys and no daemon, and is meant for
the time before ovs-vswitchd starts. What stands already stays as it is.

A NIC that is missing or not yet in switchdev mode is waited for, up to
--timeout. A guard whose NIC did not come by then stands in the host's stack
only, and the exit code is 1. On a parked host all of them stand there only.

Exit codes:
  0  every guard stands in its NIC, or there is none to stand
  1  not every guard does, as the messages say
  2  wrong use
  3  no permission
  4  this host is not supported
  5  flows were offloaded before (FLOWS_FIRST): nothing was changed`,
		Args: noArgs,
	}
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for NICs")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only print what would be done now, in iproute2's words")
	config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(config.Source{Environ: os.Environ(), Flags: cmd.Flags()})
		if err != nil {
			return wrongUse(err)
		}
		if f.timeout < 0 || f.timeout > time.Hour {
			return wrongUsef("--timeout %s: not within 0s and 1h", f.timeout)
		}
		return f.run(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

func (f guardFlags) run(ctx context.Context, cfg config.Config, stdout, stderr io.Writer) error {
	state, err := saved.Dir(cfg.StateDir).Load()
	if err != nil {
		fmt.Fprintf(stderr, "ovs-ipsec-offload: %v: only the addresses of this host's NICs are guarded [SAVED_STATE]\n", err)
	}
	b, done, err := newBoot(cfg, state)
	if err != nil {
		return err
	}
	defer done()
	var r plugin.BootResult
	if f.dryRun {
		r, err = b.Preview(ctx)
	} else {
		r, err = standUp(ctx, b, f.timeout)
	}
	printBoot(stdout, stderr, r)
	return f.verdict(r, err)
}

// verdict gives the outcome its exit code.
func (f guardFlags) verdict(r plugin.BootResult, err error) error {
	if p, ok := errors.AsType[*plugin.Problem](err); ok && p.Code == "FLOWS_FIRST" {
		return &exitError{exitFlowsFirst, err}
	}
	if err == nil && len(r.Problems) > 0 && !f.dryRun {
		err = fmt.Errorf("stand guards up: %d of them not in their NIC", len(r.Problems))
	}
	return err
}

func printBoot(stdout, stderr io.Writer, r plugin.BootResult) {
	for _, s := range r.Steps {
		fmt.Fprintln(stdout, s)
	}
	for _, g := range r.Guards {
		fmt.Fprintf(stdout, "# guard of %s udp %d stands: %s %s\n", g.Local, g.Port, g.Stands, g.PF)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(stderr, "ovs-ipsec-offload: %s [%s]\n", p.Text, p.Code)
	}
}
