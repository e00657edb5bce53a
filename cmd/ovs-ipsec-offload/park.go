// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin/config"
)

func newPark() *cobra.Command {
	return operatorVerb(&cobra.Command{
		Use:   "park",
		Short: "Take everything out of the NICs in order, before a mode change, firmware update or reset",
		Long: `Take every SA and policy out of the NICs, in the only safe order: what asks for
IPsec is blocked, flows leave the hardware and stay out, SAs go, guards last; the
guards go on standing in the host's stack. Then, with strongSwan stopped too (its
own policies for UDP 500 and 4500 are in the NICs), the eswitch mode can be changed,
firmware be updated, the NIC be reset. Tunnels without ipsec options go on by the
slow path.

The host stays parked over restarts of the daemon and reboots, until "unpark".
Outbound keys of one-shot key sets cannot be installed again: those pairs need
new keys afterwards.`,
	}, "/v1/park", "parked: nothing of this program is in a NIC, and what asks for IPsec is blocked")
}

func newUnpark() *cobra.Command {
	return operatorVerb(&cobra.Command{
		Use:   "unpark",
		Short: "End what park began: guards first, then SAs, then flows",
	}, "/v1/unpark", "unparked")
}

// operatorVerb completes a command that has the daemon do something and waits for it.
func operatorVerb(cmd *cobra.Command, path, done string) *cobra.Command {
	cmd.Args = noArgs
	config.AddFlags(cmd.Flags(), "run_dir")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(config.Source{Environ: os.Environ(), Flags: cmd.Flags()})
		if err != nil {
			return wrongUse(err)
		}
		return operate(cmd.Context(), cfg, path, done, cmd.OutOrStdout())
	}
	return cmd
}

// operate sends a request and tells what came of it.
func operate(ctx context.Context, cfg config.Config, path, done string, w io.Writer) error {
	var o outcome
	if err := request(ctx, http.MethodPost, cfg.RunDir, path, &o); err != nil {
		return err
	}
	for _, p := range o.Status.Problems {
		fmt.Fprintf(w, "problem: %s [%s]\n", p.Text, p.Code)
	}
	if !o.Done {
		return fmt.Errorf("%s: not within %s; the daemon goes on trying, and `ovs-ipsec-offload status` shows how far it is", filepath.Base(path), operateLimit)
	}
	if last := o.Status.Gate.Last; last != nil && path != "/v1/park" {
		fmt.Fprintf(w, "traffic went by the slow path for %.3f s (flows left the hardware within %.3f s)\n", last.Total, last.Drained)
	}
	_, err := fmt.Fprintf(w, "%s; state %s\n", done, o.Status.State)
	return err
}

// parkMark is the file that says that this host is parked.
type parkMark string

func (m parkMark) stands() (bool, error) {
	_, err := os.Stat(string(m))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// set writes the mark so that it outlives a crash of the machine.
func (m parkMark) set() error {
	f, err := os.OpenFile(string(m), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("park: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("park: %w", err)
	}
	return m.sync()
}

func (m parkMark) remove() error {
	if err := os.Remove(string(m)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpark: %w", err)
	}
	return m.sync()
}

// sync makes the directory's entry durable.
func (m parkMark) sync() error {
	d, err := os.Open(filepath.Dir(string(m)))
	if err != nil {
		return fmt.Errorf("park: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
