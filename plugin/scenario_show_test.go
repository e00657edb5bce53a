// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// The commands of scenarios that look at something.

// plan prints what the next round would do, and what the invariants say.
func cmdPlan(r *rig, _ []string, out io.Writer) error {
	in, ob, plan, err := r.d.Look(context.Background())
	if err != nil {
		fmt.Fprintln(out, err)
		return nil
	}
	for _, s := range plan.Steps {
		fmt.Fprintf(out, "%-7s %s\n", s.Phase, s.Text(r.Name))
	}
	for _, p := range plan.Problems {
		fmt.Fprintf(out, "problem %s: %s\n", p.Code, p.Text)
	}
	if v := plugin.Check(in, ob, plan); v != nil {
		fmt.Fprintf(out, "verdict %v\n", v)
	} else {
		fmt.Fprintln(out, "verdict ok")
	}
	return nil
}

// settled fails when the next round would do anything.
func cmdSettled(r *rig, _ []string, _ io.Writer) error {
	in, ob, plan, err := r.d.Look(context.Background())
	if err != nil {
		return err
	}
	if v := plugin.Check(in, ob, plan); v != nil {
		return v
	}
	if n := len(plan.Steps); n > 0 {
		return fmt.Errorf("%d steps are left, the first: %s", n, plan.Steps[0].Text(r.Name))
	}
	return nil
}

// status prints what the last round left.
func cmdStatus(r *rig, _ []string, out io.Writer) error {
	printStatus(out, r.d.Last())
	return nil
}

func printStatus(out io.Writer, s plugin.Status) {
	fmt.Fprintf(out, "state %s\n", s.State)
	fmt.Fprintf(out, "gate open=%t: %s\n", s.Gate.Open, s.Gate.Reason)
	for _, p := range s.Problems {
		fmt.Fprintf(out, "problem %s: %s\n", p.Code, p.Text)
	}
	for _, p := range s.PFs {
		fmt.Fprintf(out, "pf %s tx=%t rx=%t sas=%d policies=%d flows=%d\n", p.Name, p.TXTable, p.RXTable, p.SAs, p.Policies, p.OffloadedFlows)
		for _, n := range p.Notes {
			fmt.Fprintf(out, "  note %s\n", n)
		}
	}
	for _, g := range s.Guards {
		fmt.Fprintf(out, "guard %s udp %d: %s\n", g.Local, g.Port, strings.TrimSpace(g.Stands+" "+g.PF))
	}
	for _, p := range s.Pairs {
		fmt.Fprintf(out, "pair %s > %s udp %d: %s\n", p.Local, p.Remote, p.Port,
			strings.Join(strings.Fields(strings.Join([]string{p.State, p.Mode, p.PF, p.Path, p.Keys, p.SPIIn, p.SPIOut}, " ")), " "))
		if p.Problem != nil {
			fmt.Fprintf(out, "  %s: %s\n", p.Problem.Code, p.Problem.Text)
		}
		if x := p.Rotation; x != nil {
			fmt.Fprintf(out, "  rotation %s to %s: %s\n", x.Stage, x.Keys, x.WaitsFor)
		}
		if l := p.Leak; l != nil {
			fmt.Fprintf(out, "  leaked out %d, exposed %d, in %d\n", l.Out, l.Exposed, l.In)
		}
	}
	for _, p := range s.Ports {
		fmt.Fprintf(out, "port %s: %s\n", p.Name, p.State)
		for _, q := range p.Problems {
			fmt.Fprintf(out, "  %s: %s\n", q.Code, q.Text)
		}
	}
}

// reports prints what was written into external_ids since the last time.
func cmdReports(r *rig, _ []string, out io.Writer) error {
	for _, w := range r.OVS.Reports() {
		where := w.Tunnel
		if where == "" {
			where = "."
		}
		fmt.Fprintf(out, "%s state=%s code=%s boot=%s\n", where, w.Values["state"], w.Values["code"], w.Values["boot"])
	}
	return nil
}

// send PORT… prints what becomes of a packet of each port: by the VM, and by
// the host's stack alone.
func cmdSend(r *rig, args []string, out io.Writer) error {
	for _, name := range args {
		k, can := r.OVS.Tunnel(name)
		if !can {
			return fmt.Errorf("%s sends nowhere", name)
		}
		vf, host := r.SendVF(k), r.SendHost(k)
		by := "host"
		if vf.Offload {
			by = "nic"
		}
		fmt.Fprintf(out, "%s: %s by %s, %s by the stack\n", name, word(vf), by, word(host))
	}
	return nil
}

func word(f fakenic.Fate) string {
	if f.Why == "" {
		return f.Way.String()
	}
	return fmt.Sprintf("%s (%s)", f.Way, f.Why)
}

// receive PORT clear|esp prints what becomes of a packet of the peer.
func cmdReceive(r *rig, args []string, out io.Writer) error {
	k, can := r.OVS.Tunnel(args[0])
	if !can {
		return fmt.Errorf("%s receives nothing", args[0])
	}
	f := fakenic.Tunnel{Src: k.Dst, Dst: k.Src, Port: k.Port, VNI: k.VNI}.Frame()
	if args[1] == "esp" {
		snap, _ := r.OVS.Current()
		for _, t := range snap.Tunnels {
			if t.Name != args[0] {
				continue
			}
			set, err := r.Keys.Lookup(t.Keys)
			if err != nil {
				return err
			}
			f.ESP = &fakenic.ESP{SPI: set.InSPI, Key: set.InPrint}
		}
	}
	fmt.Fprintf(out, "%s: %s\n", args[0], word(r.PFs()[0].Receive(f)))
	return nil
}

// nic PF prints its tables, counters of clear text and its log.
func cmdNIC(r *rig, args []string, out io.Writer) error {
	p := r.PF(args[0])
	t, c := p.Tables(), p.Counters()
	fmt.Fprintf(out, "tables tx=%d rx=%d flows=%d clear tx=%d rx=%d\n", t.TXTables, t.RXTables, t.OffloadedFlows, c.TXClearVXLAN, c.RXClearVXLAN)
	for _, l := range p.Log() {
		fmt.Fprintln(out, l)
	}
	return nil
}

// kernel prints states and policies, oldest first.
func cmdKernel(r *rig, _ []string, out io.Writer) error {
	sas, err := r.SAs(context.Background())
	if err != nil {
		return err
	}
	for i := range slices.Backward(sas) {
		s := &sas[i]
		fmt.Fprintf(out, "state %s %s > %s spi %#x reqid %d dev %s\n", s.Dir, s.Src, s.Dst, s.SPI, s.Reqid, r.Name(s.Offload.Ifindex))
	}
	policies, err := r.Policies(context.Background())
	if err != nil {
		return err
	}
	for i := range slices.Backward(policies) {
		fmt.Fprintln(out, strings.TrimPrefix(xfrm.Op{Kind: xfrm.AddPolicy, Policy: &policies[i]}.IP(r.Name), "ip xfrm "))
	}
	return nil
}
