// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin/config"
	"ovs-ipsec-offload/plugin/keys"
)

func newPlan() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would be done now, and change nothing",
		Long: `Show what a round of the daemon would do on this host now, step by step in
iproute2's words, and whether the invariants allow it. Nothing is changed.

A running daemon is asked; without one the host is looked at directly. With a
daemon that has done its work the plan is empty.`,
		Args: noArgs,
	}
	config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(config.Source{Environ: os.Environ(), Flags: cmd.Flags()})
		if err != nil {
			return wrongUse(err)
		}
		p, err := fetchPlan(cmd.Context(), cfg, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return printPlan(cmd.OutOrStdout(), p)
	}
	return cmd
}

// fetchPlan asks the daemon, or plans here when there is none.
func fetchPlan(ctx context.Context, cfg config.Config, stderr io.Writer) (p preview, err error) {
	err = ask(ctx, cfg.RunDir, "/v1/plan", &p)
	if !errors.Is(err, errNotRunning) {
		return p, err
	}
	book, err := keys.ReadLedger(cfg.StateDir)
	if err != nil {
		return p, err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	h, err := newHost(ctx, cfg, log, ledger{book}, "")
	if err != nil {
		return p, err
	}
	defer h.close()
	return h.planOnce(ctx)
}

// connectLimit is how long a verb without a daemon waits for the database.
const connectLimit = 10 * time.Second

// planOnce waits for the database and looks once.
func (h *host) planOnce(ctx context.Context) (p preview, err error) {
	err = h.connected(ctx, func(ctx context.Context) error {
		p, err = previewOf(ctx, h.daemon, false)
		return err
	})
	return p, err
}

// connected waits for the database, without a daemon, and does something with it.
func (h *host) connected(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	ended := make(chan struct{})
	go func() { defer close(ended); h.watch.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for {
		_, state := h.watch.Current()
		if state.Known {
			return do(ctx)
		}
		select {
		case <-h.watch.Changed():
		case <-ctx.Done():
			return &exitError{exitUnreachable, fmt.Errorf("read the database: %w", errors.Join(state.Err, ctx.Err()))}
		}
	}
}

// printPlan prints a plan for people.
func printPlan(w io.Writer, p preview) error {
	for _, s := range p.Steps {
		fmt.Fprintln(w, s)
	}
	for _, problem := range p.Problems {
		fmt.Fprintf(w, "# problem: %s [%s]\n", problem.Text, problem.Code)
	}
	verdict := "every prefix keeps the invariants"
	switch {
	case p.Verdict != "":
		verdict = p.Verdict
	case len(p.Steps) == 0:
		_, err := fmt.Fprintln(w, "# nothing to do")
		return err
	}
	_, err := fmt.Fprintf(w, "# %d steps; %s\n", len(p.Steps), verdict)
	return err
}
