// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

var update = flag.Bool("update", false, "write what the scenarios give into their files")

// TestScenarios plays the stories in testdata/scenarios. Each is a script whose
// commands act on a hypervisor with one PF (pf0, 10.0.0.1/24, fd00::1/64) and a
// daemon; see the functions below for what they do.
func TestScenarios(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/scenarios",
		UpdateScripts: *update,
		Cmds:          scenarioCommands(),
		Setup: func(e *testscript.Env) error {
			e.Values[rigKey{}] = standardRig()
			return nil
		},
	})
}

type rigKey struct{}

type command func(r *rig, args []string, out io.Writer) error

func commands() map[string]command {
	return map[string]command{
		"pf": cmdPF, "link": cmdLink, "vxlan": cmdVXLAN, "addr": cmdAddr, "knob": cmdKnob, "devlink": cmdDevlink,
		"keys": cmdKeys, "port": cmdPort, "delport": cmdDelPort, "many": cmdMany, "ovs": cmdOVS, "settings": cmdSettings,
		"plan": cmdPlan, "round": cmdRound, "status": cmdStatus, "reports": cmdReports,
		"send": cmdSend, "receive": cmdReceive, "nic": cmdNIC, "kernel": cmdKernel,
		"lose": cmdLose, "restart": cmdRestart, "reboot": cmdReboot, "pass": cmdPass, "clock": cmdClock, "settled": cmdSettled, "fault": cmdFault,
	}
}

func scenarioCommands() map[string]func(*testscript.TestScript, bool, []string) {
	fs := map[string]func(*testscript.TestScript, bool, []string){}
	for name, c := range commands() {
		fs[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			err := c(ts.Value(rigKey{}).(*rig), args, ts.Stdout())
			switch {
			case neg && err == nil:
				ts.Fatalf("%s: no error", name)
			case neg:
				fmt.Fprintln(ts.Stdout(), err)
			case err != nil:
				ts.Fatalf("%s: %v", name, err)
			}
		}
	}
	return fs
}

// pf NAME IFINDEX adds a PF.
func cmdPF(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r.AddPF(args[0], n)
	return nil
}

// link NAME IFINDEX [KIND] adds another device.
func cmdLink(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r.AddLink(args[0], n, strings.Join(args[2:], ""))
	return nil
}

// vxlan NAME IFINDEX PORT adds a VXLAN device that is not Open vSwitch's.
func cmdVXLAN(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(args[2], 10, 16)
	if err != nil {
		return err
	}
	r.AddVXLAN(args[0], n, uint16(port), false)
	return nil
}

// addr PREFIX IFINDEX puts an address on a device; addr -del ADDRESS takes it off.
func cmdAddr(r *rig, args []string, _ io.Writer) error {
	if args[0] == "-del" {
		a, err := netip.ParseAddr(args[1])
		if err == nil {
			r.DelAddr(a)
		}
		return err
	}
	p, err := netip.ParsePrefix(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r.AddAddr(p, n)
	return nil
}

// knob PF NAME chooses the contract of another kernel or card; knob lockdown makes
// the kernel hide keys.
func cmdKnob(r *rig, args []string, _ io.Writer) error {
	var err error
	if args[0] == "lockdown" {
		r.SetLockdown(true)
		return nil
	}
	r.PF(args[0]).Set(func(k *fakenic.Knobs) {
		switch args[1] {
		case "after-decrypt":
			k.AfterDecrypt = true
		case "before-decrypt":
			k.AfterDecrypt = false
		case "strict-sa":
			k.StrictSA = true
		case "no-priority":
			k.NoPriority = true
		default:
			err = fmt.Errorf("no knob %s", args[1])
		}
	})
	return err
}

// devlink PF encap|mode|steering VALUE, devlink PF vf|no-vf N, devlink PF down|up.
func cmdDevlink(r *rig, args []string, _ io.Writer) error {
	p := r.PF(args[0])
	switch args[1] {
	case "encap":
		return p.SetEncap(args[2])
	case "mode":
		return p.SetMode(args[2])
	case "steering":
		return p.SetSteering(args[2])
	case "vf", "no-vf":
		n, err := strconv.Atoi(args[2])
		return errors.Join(err, p.SetVFIPsec(n, "ipsec_packet", args[1] == "vf"))
	case "down", "up":
		p.SetUp(args[1] == "up")
		return nil
	}
	return fmt.Errorf("no setting %s", args[1])
}

// keys NAME… makes key sets, or new ones of the same names; keys -remove NAME
// removes a file.
func cmdKeys(r *rig, args []string, _ io.Writer) error {
	if args[0] == "-remove" {
		r.Keys.Remove(args[1])
		return nil
	}
	for _, n := range args {
		r.Keys.Make(n)
	}
	return nil
}

// port NAME [OPTION=VALUE]… adds a port or changes it. Besides options it takes
// type=TYPE and refused=CODE, for a port that package ovsdb refuses.
func cmdPort(r *rig, args []string, _ io.Writer) error {
	t := ovsdb.Tunnel{Name: args[0], Type: "vxlan", DstPort: 4789}
	for _, a := range args[1:] {
		k, v, _ := strings.Cut(a, "=")
		if err := setOption(&t, k, v); err != nil {
			return err
		}
	}
	r.OVS.SetPort(t)
	return nil
}

func setOption(t *ovsdb.Tunnel, k, v string) (err error) {
	t.IPsec = t.IPsec || strings.HasPrefix(k, "ipsec") || k == "psk"
	if t.IPsec && t.Mode == "" {
		t.Mode = ovsdb.Transport
	}
	var port uint64
	switch k {
	case "type":
		t.Type = v
	case "remote_ip", "local_ip":
		if v == "flow" {
			t.ByFlow = true
		} else if k == "remote_ip" {
			t.Remote, err = netip.ParseAddr(v)
		} else {
			t.Local, err = netip.ParseAddr(v)
		}
	case "dst_port":
		port, err = strconv.ParseUint(v, 10, 16)
		t.DstPort = uint16(port)
	case "ipsec_keys":
		t.Keys = v
	case "ipsec_mode":
		t.Mode = ovsdb.Mode(v)
	case "ipsec_dev":
		t.Dev = v
	case "refused":
		t.Problems = append(t.Problems, ovsdb.Problem{Code: v, Text: "refused by package ovsdb"})
	case "psk":
	default:
		err = fmt.Errorf("no option %s", k)
	}
	return err
}

// delport NAME… deletes ports.
func cmdDelPort(r *rig, args []string, _ io.Writer) error {
	r.OVS.DelPort(args...)
	return nil
}

// many N adds N ports with a key set each, in one transaction.
func cmdMany(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ts := make([]ovsdb.Tunnel, n)
	for i := range ts {
		name := fmt.Sprintf("vx%d", i)
		r.Keys.Make(name)
		ts[i] = secure(name, "10.0.0.1", netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}).String(), name)
	}
	r.OVS.SetPort(ts...)
	return nil
}

// ovs stop|start|linger|settle|hw-offload=VALUE|lost|unread|back.
func cmdOVS(r *rig, args []string, _ io.Writer) error {
	switch k, v, _ := strings.Cut(args[0], "="); k {
	case "stop":
		r.OVS.Stop()
	case "start":
		r.OVS.Start()
	case "linger":
		r.OVS.Linger = true
	case "settle":
		r.OVS.Settle()
	case "hw-offload":
		r.OVS.Offload(v)
	case "lost":
		r.OVS.SetState(ovsdb.State{Known: true, Err: unix.ECONNREFUSED})
	case "unread":
		r.OVS.SetState(ovsdb.State{Err: unix.ENOENT})
	case "back":
		r.OVS.SetState(ovsdb.State{Known: true, Connected: true})
	default:
		return fmt.Errorf("ovs cannot %s", args[0])
	}
	return nil
}

// settings gate=auto|off guard=auto|tunnels.
func cmdSettings(r *rig, args []string, _ io.Writer) error {
	for _, a := range args {
		switch a {
		case "gate=auto", "gate=off":
			r.cfg.Settings.GateAuto = a == "gate=auto"
		case "guard=auto", "guard=tunnels":
			r.cfg.Settings.GuardAuto = a == "guard=auto"
		default:
			return fmt.Errorf("no setting %s", a)
		}
	}
	r.d.SetSettings(r.cfg.Settings)
	return nil
}

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

// round makes rounds until there is nothing to do at once.
func cmdRound(r *rig, _ []string, _ io.Writer) error { return r.settle() }

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

// pass DURATION moves the clock and makes rounds.
func cmdPass(r *rig, args []string, _ io.Writer) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	r.Clock.Advance(d)
	return r.settle()
}

// clock DURATION moves the clock only.
func cmdClock(r *rig, args []string, _ io.Writer) error {
	d, err := time.ParseDuration(args[0])
	r.Clock.Advance(d)
	return err
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

// lose states|policies|guards|guard ADDRESS|in PORT|out PORT: what a stranger's
// hand takes away.
func cmdLose(r *rig, args []string, _ io.Writer) error {
	switch args[0] {
	case "states":
		r.FlushStates()
		return nil
	case "policies":
		r.FlushPolicies()
		return nil
	case "guards", "guard":
		return loseGuards(r, strings.Join(args[1:], ""))
	}
	k, can := r.OVS.Tunnel(args[1])
	if !can {
		return fmt.Errorf("no pair of %s", args[1])
	}
	sas, err := r.SAs(context.Background())
	if err != nil {
		return err
	}
	for i := range sas {
		if s := &sas[i]; s.Dir.String() == args[0] && (s.Dst == k.Dst || s.Src == k.Dst) {
			return r.Do(context.Background(), []xfrm.Op{{Kind: xfrm.DeleteSA, SA: s}})[0]
		}
	}
	return fmt.Errorf("no SA %s of %s", args[0], args[1])
}

// loseGuards takes away the guards of an address, "" for all.
func loseGuards(r *rig, address string) error {
	policies, err := r.Policies(context.Background())
	if err != nil {
		return err
	}
	for i := range policies {
		if p := &policies[i]; p.Priority == plugin.PriorityGuard && (address == "" || p.Sel.Src.Addr().String() == address || p.Sel.Dst.Addr().String() == address) {
			if err := r.Do(context.Background(), []xfrm.Op{{Kind: xfrm.DeletePolicy, Policy: p}})[0]; err != nil {
				return err
			}
		}
	}
	return nil
}

// restart starts the daemon anew; the kernel keeps what it has.
func cmdRestart(r *rig, _ []string, _ io.Writer) error {
	r.restart()
	r.d.SetSettings(r.cfg.Settings)
	return nil
}

// reboot empties the kernel and the NICs; database, key sets and ledger stay.
func cmdReboot(r *rig, _ []string, _ io.Writer) error {
	r.OVS.Stop()
	r.FlushStates()
	r.FlushPolicies()
	r.restart()
	return nil
}

// fault ERRNO TIMES WORD… strikes the operation whose label is the words.
func cmdFault(r *rig, args []string, _ io.Writer) error {
	if args[0] == "none" {
		r.Faults.Set()
		return nil
	}
	errno := map[string]unix.Errno{"EBUSY": unix.EBUSY, "EPERM": unix.EPERM, "ENOMEM": unix.ENOMEM, "ENOSPC": unix.ENOSPC}[args[0]]
	times, err := strconv.Atoi(args[1])
	if err != nil || errno == 0 {
		return fmt.Errorf("fault %v: no such errno or number", args)
	}
	r.Faults.Set(fakenic.Fault{Label: strings.Join(args[2:], " "), Errno: errno, Times: times})
	return nil
}
