// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
)

// rotateFlags are the flags of "keys rotate".
type rotateFlags struct {
	now, print bool
	wait       time.Duration
}

func newKeysRotate() *cobra.Command {
	var f rotateFlags
	cmd := &cobra.Command{
		Use:   "rotate PORT NAME",
		Short: "Change the keys of a tunnel without loss",
		Long: `Have a tunnel change to the key set NAME, which is installed on this host and was
never used: options:ipsec_keys of PORT, and of every other port to the same peer,
is set to it in one transaction. Do the same on the peer, before or after, whenever
you like.

Traffic goes on by the old keys until a packet of the peer by the new ones shows that
it has them; then it turns to them, and the old ones go when nothing comes by them.
Each stage is printed: receive, prove, switch, drain.

The verb ends when traffic has turned, or when it waits for the peer; with --wait it
waits for that long, and ends with code 6 if the traffic has not turned then.`,
		Example: "  ovs-ipsec-offload keys rotate vx0 hv1-hv2-8a2a29ff",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return wrongUsef("keys rotate: give a port and the name of a key set; see \"%s --help\"", cmd.CommandPath())
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&f.now, "now", false, "turn at once, whatever the peer has shown: what it cannot decrypt is lost")
	cmd.Flags().BoolVar(&f.print, "print", false, "print the command that sets the ports, and do nothing")
	cmd.Flags().DurationVar(&f.wait, "wait", 0, "wait for the peer for `TIME`")
	config.AddFlags(cmd.Flags(), "run_dir", "ovsdb")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := config.Load(config.Source{Environ: os.Environ(), Flags: cmd.Flags()})
		if err != nil {
			return wrongUse(err)
		}
		return f.run(cmd.Context(), cfg, args[0], args[1], cmd.OutOrStdout())
	}
	return cmd
}

func (f rotateFlags) run(ctx context.Context, cfg config.Config, port, keys string, w io.Writer) error {
	q := url.Values{"port": {port}, "keys": {keys}}
	if f.now && !f.print {
		q.Set("now", "1")
	}
	var r plugin.Rotation
	if err := request(ctx, http.MethodPost, cfg.RunDir, "/v1/rotate?"+q.Encode(), &r); err != nil {
		return err
	}
	args := namingArgs(cfg.OVSDB, r.Ports, keys)
	if fmt.Fprintln(w, strings.Join(args, " ")); f.print {
		return nil
	}
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("set the ports of %s: %w: %s", r.Pair, err, strings.TrimSpace(string(out)))
	}
	ctx, cancel := context.WithTimeout(ctx, max(f.wait, operateLimit))
	defer cancel()
	return f.follow(ctx, cfg.RunDir, port, keys, w)
}

// namingArgs returns the command that has ports name a key set, in one transaction.
func namingArgs(endpoint string, ports []string, keys string) []string {
	args := []string{"ovs-vsctl", "--no-wait", "--db=" + endpoint}
	for i, p := range ports {
		if i > 0 {
			args = append(args, "--")
		}
		args = append(args, "set", "interface", p, "options:ipsec_keys="+keys)
	}
	return args
}

// rotatePause lies between two looks at the status.
const rotatePause = 200 * time.Millisecond

// follow prints the stages until traffic has turned, or there is nothing to wait for.
func (f rotateFlags) follow(ctx context.Context, runDir, port, keys string, w io.Writer) error {
	began, last := time.Now(), ""
	for {
		var s plugin.Status
		if err := ask(ctx, runDir, "/v1/status", &s); err != nil {
			return err
		}
		st := rotationOf(s, port, keys)
		if st.line != last && st.line != "" {
			fmt.Fprintln(w, st.line)
		}
		last = st.line
		switch {
		case st.turned:
			return nil
		case st.err != nil:
			return st.err
		case st.waits && f.wait == 0 && !f.now:
			_, err := fmt.Fprintln(w, "do the same on the peer; `ovs-ipsec-offload status` shows when it is done")
			return err
		case f.wait > 0 && time.Since(began) >= f.wait:
			return &exitError{exitWaits, fmt.Errorf("change keys of %s: not within %s: %s", port, f.wait, st.line)}
		}
		select {
		case <-ctx.Done():
			return &exitError{exitWaits, fmt.Errorf("change keys of %s: not within %s: %s", port, operateLimit, st.line)}
		case <-time.After(rotatePause):
		}
	}
}

// rotationSeen is what a status says of a change of keys.
type rotationSeen struct {
	line   string
	turned bool // traffic goes by the new keys
	waits  bool // for the peer
	err    error
}

func rotationOf(s plugin.Status, port, keys string) (r rotationSeen) {
	i := slices.IndexFunc(s.Pairs, func(p plugin.PairStatus) bool { return slices.Contains(p.Ports, port) })
	if i < 0 || s.Pairs[i].Keys != keys {
		return r // the daemon has not seen it yet
	}
	p := &s.Pairs[i]
	if p.Rotation != nil {
		r.line = rotationLine(p.Rotation)
		r.waits = p.Rotation.Stage == plugin.StageProve
	}
	r.turned = p.State == plugin.StateEncrypted && (p.Rotation == nil || p.Rotation.Stage == plugin.StageDrain)
	switch {
	case p.Problem != nil:
		r.turned, r.err = false, errors.New("change keys of "+port+": "+p.Problem.Text+" ["+p.Problem.Code+"]")
	case r.turned && p.Rotation == nil:
		r.line = "done: " + port + " sends and receives by " + keys
	}
	return r
}
