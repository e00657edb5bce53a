// SPDX-License-Identifier: Apache-2.0

// Command ovs-ipsec-offload keeps the VXLAN tunnels of Open vSwitch encrypted by
// the NIC. "run" is the daemon; the other verbs are for the operator.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(program()) }

// program runs the command line and returns the exit code.
func program() int {
	if err := harden(); err != nil {
		fmt.Fprintln(os.Stderr, "ovs-ipsec-offload:", err)
		return exitFailure
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := newRoot()
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ovs-ipsec-offload:", describe(err))
		return exitCode(err)
	}
	return exitOK
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "ovs-ipsec-offload",
		Short: "Encrypt the tunnels of Open vSwitch in the NIC",
		Long: `Encrypt the tunnels of Open vSwitch in the NIC.

"run" is the daemon: it watches Open vSwitch's database for VXLAN ports with
ipsec options and has the NIC encrypt their traffic, before any flow is
offloaded. It needs no configuration on a standard host.

Exit codes:
  0  done
  1  failed, or another instance is running
  2  wrong use: unknown command, flag or setting, or a value that is not allowed
  3  not reachable or no permission
  4  this host is not supported
  5  guard: flows were offloaded before its guards stood
  6  keys rotate: it waits still, for the peer`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return wrongUse(err) })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newRun(), newGuard(), newPlan(), newStatus(), newRepair(), newPark(), newUnpark(), newUninstall(), newKeys(), newVersion(), newUpdown())
	return root
}
