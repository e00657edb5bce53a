// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
)

func newStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the host, the gate, the tables and every pair with its reason",
		Long: `Show what the daemon finds on this host now: the state of the host, the gate, the
NIC's IPsec tables, and every pair and port with the reason why it is as it is.

The first line is the sum: ok, waiting (for the database), unseen (the host cannot be
looked at; what is shown is what was last known), parked (nothing of the program is
in a NIC), degraded (something is blocked or refused) or unsafe (something that asks
for IPsec is neither encrypted nor blocked). The exit code is 0 whatever the state.`,
		Args: noArgs,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	config.AddFlags(cmd.Flags(), "run_dir")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := fetchStatus(cmd.Context(), cmd)
		if err != nil {
			return err
		}
		if asJSON {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(s)
		}
		return printStatus(cmd.OutOrStdout(), s)
	}
	return cmd
}

func fetchStatus(ctx context.Context, cmd *cobra.Command) (s plugin.Status, err error) {
	cfg, err := config.Load(config.Source{Environ: os.Environ(), Flags: cmd.Flags()})
	if err != nil {
		return s, wrongUse(err)
	}
	return s, ask(ctx, cfg.RunDir, "/v1/status", &s)
}

// printStatus prints a status for people.
func printStatus(w io.Writer, s plugin.Status) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "state\t%s\n", s.State)
	fmt.Fprintf(t, "host\t%s\n", strings.Join(nonEmpty(s.Host.SystemID, prefixed("kernel ", s.Host.Kernel), prefixed("Open vSwitch ", s.Host.OVS)), ", "))
	fmt.Fprintf(t, "database\t%s\n", s.Host.Database)
	fmt.Fprintf(t, "gate\t%s (hw-offload %s): %s\n", map[bool]string{true: "open", false: "closed"}[s.Gate.Open], cmp.Or(s.Gate.HWOffload, "unset"), s.Gate.Reason)
	if l := s.Gate.Last; l != nil {
		fmt.Fprintf(t, "\tlast held (%s) %s: no flow in hardware after %.3f s, slow path for %.3f s\n", l.Why, l.At.Format(time.DateTime), l.Drained, l.Total)
	}
	for _, p := range s.PFs {
		fmt.Fprintf(t, "nic %s\t%s %s, eswitch %s, encap-mode %s, steering %s\n", p.Name, p.Driver, p.Handle, p.EswitchMode, p.EncapMode, cmp.Or(p.Steering, "default"))
		fmt.Fprintf(t, "\ttables: TX %s, RX %s; %d SAs, %d policies, %d offloaded flows\n", stands(p.TXTable), stands(p.RXTable), p.SAs, p.Policies, p.OffloadedFlows)
		if m := p.Meter; m != nil {
			fmt.Fprintf(t, "\tleak meter: %d into tunnels by flows, %d encrypted in all, %d dropped; %d or more neither\n", m.Encap, m.Encrypted, m.Dropped, m.Leaked)
		}
		for _, n := range p.Notes {
			fmt.Fprintf(t, "\tnote: %s\n", n)
		}
	}
	for _, g := range s.Guards {
		fmt.Fprintf(t, "guard\t%s udp %d: %s\n", g.Local, g.Port, strings.TrimSpace(g.Stands+" "+g.PF))
	}
	for _, p := range s.Problems {
		fmt.Fprintf(t, "problem\t%s [%s]\n", p.Text, p.Code)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(t, "note\t%s [%s]\n", n.Text, n.Code)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	printPairs(w, s.Pairs)
	printPorts(w, s.Ports)
	return nil
}

func printPairs(w io.Writer, pairs []plugin.PairStatus) {
	if len(pairs) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nLOCAL\tREMOTE\tUDP\tSTATE\tMODE\tPATH\tKEYS\tSPI IN/OUT\tPACKETS IN/OUT\tPORTS")
	for _, p := range pairs {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%d/%d\t%s\n", p.Local, p.Remote, p.Port, p.State, cmp.Or(p.Mode, "-"), cmp.Or(p.Path, "-"),
			keysOf(p), cmp.Or(p.SPIIn, "-")+"/"+cmp.Or(p.SPIOut, "-"), p.In.Packets, p.Out.Packets, strings.Join(p.Ports, ","))
	}
	_ = t.Flush() // of a terminal or a pipe; the next write tells
	for _, p := range pairs {
		printRotation(w, p)
		printLeak(w, p)
		for _, n := range p.Notes {
			fmt.Fprintf(w, "\nnote on %s > %s udp %d: %s [%s]\n", p.Local, p.Remote, p.Port, n.Text, n.Code)
		}
	}
}

// keysOf says where a pair's keys come from.
func keysOf(p plugin.PairStatus) string {
	if p.IKE != nil {
		return "IKE " + p.IKE.Auth
	}
	return cmp.Or(p.Keys, "-")
}

// printRotation says how far a pair has come with a change of keys.
func printRotation(w io.Writer, p plugin.PairStatus) {
	if r := p.Rotation; r != nil {
		fmt.Fprintf(w, "\nchange of keys of %s > %s udp %d: %s\n", p.Local, p.Remote, p.Port, rotationLine(r))
	}
}

// rotationLine says the same without the pair.
func rotationLine(r *plugin.RotationStatus) string {
	line := r.Stage + ", to " + r.Keys
	if r.WaitsFor != "" {
		line += "; waits for " + r.WaitsFor
	}
	return line
}

// printLeak says what leaked of a pair since the daemon started.
func printLeak(w io.Writer, p plugin.PairStatus) {
	l := p.Leak
	if l == nil {
		return
	}
	fmt.Fprintf(w, "\nleaked of %s > %s udp %d, packets: out %d or more, %d or less while exposed, in %d or more; %s to %s\n", p.Local, p.Remote, p.Port,
		l.Out, l.Exposed, l.In, l.Since.UTC().Format(time.RFC3339), l.Last.UTC().Format(time.RFC3339))
}

// printPorts prints the ports that have something to say.
func printPorts(w io.Writer, ports []plugin.PortStatus) {
	for _, p := range ports {
		state := p.State
		if state == plugin.StateInvalid {
			state += " and nothing stops it"
		}
		for _, problem := range p.Problems {
			fmt.Fprintf(w, "\nport %s is %s: %s [%s]\n", p.Name, state, problem.Text, problem.Code)
		}
	}
}

func stands(yes bool) string {
	if yes {
		return "stands"
	}
	return "missing"
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func nonEmpty(ss ...string) (out []string) {
	for _, s := range ss {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
