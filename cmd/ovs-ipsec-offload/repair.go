// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin/config"
)

func newRepair() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Take flows out of hardware for what they are in the way of, and put them back",
		Long: `Give the daemon leave to take flows out of hardware once, where they keep the
NIC's IPsec tables, guards or SAs from standing: on a host whose flows were
offloaded before the daemon ever ran (problem FLOWS_FIRST), after a change of
modes (TABLES_STALE, GUARD_HELD) and on kernels that take no SA beside flows.
Traffic goes by the slow path meanwhile, usually for about a second.

The plan is printed first.`,
		Args: noArgs,
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	config.AddFlags(cmd.Flags(), "run_dir")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(config.Source{Environ: os.Environ(), Flags: cmd.Flags()})
		if err != nil {
			return wrongUse(err)
		}
		var p preview
		if err := ask(cmd.Context(), cfg.RunDir, "/v1/plan?repair=1", &p); err != nil {
			return err
		}
		if err := printPlan(cmd.OutOrStdout(), p); err != nil {
			return err
		}
		if !yes && !agreed(cmd.InOrStdin(), cmd.OutOrStdout()) {
			return fmt.Errorf("repair: not agreed to, nothing was done")
		}
		return operate(cmd.Context(), cfg, "/v1/repair", "repaired", cmd.OutOrStdout())
	}
	return cmd
}

func agreed(in io.Reader, out io.Writer) bool {
	fmt.Fprint(out, "Do this now? [y/N] ")
	line, _ := bufio.NewReader(in).ReadString('\n') // the end of input is a no
	return strings.EqualFold(strings.TrimSpace(line), "y") || strings.EqualFold(strings.TrimSpace(line), "yes")
}
