// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
	"ovs-ipsec-offload/plugin/keys"
	"ovs-ipsec-offload/plugin/saved"
)

func newUninstall() *cobra.Command {
	var leaveClear bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take away what a parked host still holds, before the program is removed",
		Long: `Take away what "park" left on this host: the guards in the host's stack, the hold in
the database, our keys in external_ids, and what was saved for the next boot. Before:

  ovs-ipsec-offload park
  systemctl disable --now ovs-ipsec-offload ovs-ipsec-offload-guard

Afterwards nothing blocks tunnels that ask for IPsec: it is refused while there are
any, unless you say --leave-clear. Key sets and the ledger of used keys stay: see
the manual before you delete them.`,
		Args: noArgs,
	}
	cmd.Flags().BoolVar(&leaveClear, "leave-clear", false, "also when ports ask for IPsec: they send clear text afterwards")
	config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(config.Source{Environ: os.Environ(), Flags: cmd.Flags()})
		if err != nil {
			return wrongUse(err)
		}
		return uninstall(cmd.Context(), cfg, leaveClear, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

func uninstall(ctx context.Context, cfg config.Config, leaveClear bool, out, stderr io.Writer) (err error) {
	lock, err := lockInstance(cfg.RunDir)
	if err != nil {
		return fmt.Errorf("uninstall: stop the daemon first: %w", err)
	}
	defer lock.Close()
	book, err := keys.ReadLedger(cfg.StateDir)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	h, err := newHost(ctx, cfg, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError})), ledger{book}, boot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if is, err := h.mark.stands(); err != nil || !is {
		return errors.Join(err, errors.New("uninstall: the host is not parked: start the daemon, `ovs-ipsec-offload park`, and stop it again"))
	}
	if err := h.connected(ctx, func(ctx context.Context) error {
		config := h.config
		config.Released = func() { h.purge(ctx) } // here, for this program ends
		done, err := plugin.Uninstall(ctx, config, leaveClear)
		for _, line := range done {
			fmt.Fprintln(out, line)
		}
		return err
	}); err != nil {
		return err
	}
	for _, name := range []string{saved.BatchFile, saved.File} {
		if err := os.Remove(filepath.Join(cfg.StateDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("uninstall: %w", err)
		}
	}
	if err := h.mark.remove(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "uninstalled; the program, its units and "+cfg.StateDir+" can be removed")
	return err
}
