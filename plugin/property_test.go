// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// TestAnyHistory lets operators, strangers, faults and the daemon act in any
// order and checks after each act what must hold always.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"":         w.check,
			"port":     w.port,
			"del-port": w.delPort,
			"keys":     w.keys,
			"ovs":      w.ovs,
			"settings": w.changeSettings,
			"nic":      w.nic,
			"address":  w.address,
			"stranger": w.stranger,
			"foreign":  w.foreign,
			"fault":    w.fault,
			"restart":  func(*rapid.T) { w.restart(); w.d.SetSettings(w.cfg.Settings) },
			"round":    w.act,
			"round-2":  w.act,
			"time":     w.pass,
		})
		w.calm(t)
	})
}

// world is a hypervisor with two NICs and a plain one.
type world struct{ *rig }

func newWorld(t *rapid.T) *world {
	r := standardRig()
	r.AddPF("pf1", 5)
	r.AddLink("eth0", 2, "")
	for _, a := range []struct {
		prefix string
		dev    int
	}{{"10.0.0.11/24", 4}, {"10.1.0.1/24", 5}, {"192.0.2.1/24", 2}} {
		r.AddAddr(netip.MustParsePrefix(a.prefix), a.dev)
	}
	after, strict := rapid.Bool().Draw(t, "after decrypt"), rapid.IntRange(0, 9).Draw(t, "strict") == 0
	most := pick(t, "room", 2047, 2047, 2047, 1, 2, 3)
	poor := pick(t, "no priorities", 0, 0, 0, 4, 5, 45)
	for _, p := range r.PFs() {
		p.Set(func(k *fakenic.Knobs) {
			k.AfterDecrypt, k.StrictSA, k.MaxRXSA, k.NoPriority = after, strict, most, poor == p.Ifindex() || poor == 45
		})
	}
	r.watch()
	return &world{r}
}

func pick[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

// port adds or changes a port: encrypted, plain, refused or by flow.
func (w *world) port(t *rapid.T) {
	p := ovsdb.Tunnel{Name: pick(t, "name", "p0", "p1", "p2", "p3", "p4"), Type: pick(t, "type", "vxlan", "vxlan", "vxlan", "geneve"),
		DstPort: pick[uint16](t, "dst_port", 4789, 4789, 4790)}
	p.Remote = netip.MustParseAddr(pick(t, "remote_ip", "10.0.0.2", "10.0.0.3", "10.1.0.2", "192.0.2.2", "fd00::2"))
	if local := pick(t, "local_ip", "", "10.0.0.1", "10.0.0.1", "10.0.0.11", "10.1.0.1", "192.0.2.1", "203.0.113.7"); local != "" && p.Remote.Is4() {
		p.Local = netip.MustParseAddr(local)
	}
	if p.IPsec = rapid.IntRange(0, 3).Draw(t, "ipsec") > 0; p.IPsec {
		p.Mode = pick(t, "mode", ovsdb.Transport, ovsdb.Transport, ovsdb.Transport, ovsdb.Tunneled)
		p.Keys = pick(t, "keys", "k0", "k1", "k2", "k3", "k4")
		p.Dev = pick(t, "dev", "", "", "", "pf0", "eth7")
		if p.Type != "vxlan" {
			p.Problems = []ovsdb.Problem{{Code: "OPT_TYPE", Text: "refused"}}
		}
	}
	if rapid.IntRange(0, 9).Draw(t, "by flow") == 0 {
		p.Remote, p.ByFlow = netip.Addr{}, true
	}
	w.OVS.SetPort(p)
}

func (w *world) delPort(t *rapid.T) { w.OVS.DelPort(pick(t, "name", "p0", "p1", "p2", "p3", "p4")) }

func (w *world) keys(t *rapid.T) {
	n := pick(t, "name", "k0", "k1", "k2", "k3", "k4")
	switch pick(t, "what", "make", "make", "make", "remove", "restore") {
	case "make":
		w.Keys.Make(n)
	case "remove":
		w.Keys.Remove(n)
	case "restore":
		w.Keys.Restore(n)
	}
}

func (w *world) ovs(t *rapid.T) {
	switch pick(t, "what", "stop", "start", "linger", "settle", "true", "false", "unset", "lost", "unread", "back", "back") {
	case "stop":
		w.OVS.Stop()
	case "start":
		w.OVS.Start()
	case "linger":
		w.OVS.Linger = !w.OVS.Linger
	case "settle":
		w.OVS.Settle()
	case "true":
		w.OVS.Offload("true")
	case "false":
		w.OVS.Offload("false")
	case "unset":
		w.OVS.Offload("")
	case "lost":
		w.OVS.SetState(ovsdb.State{Known: true, Err: unix.ECONNREFUSED})
	case "unread":
		w.OVS.SetState(ovsdb.State{Err: unix.ENOENT})
	case "back":
		w.OVS.SetState(ovsdb.State{Known: true, Connected: true})
	}
}

func (w *world) changeSettings(t *rapid.T) {
	w.cfg.Settings = plugin.Settings{GateAuto: rapid.Bool().Draw(t, "gate"), GuardAuto: rapid.Bool().Draw(t, "guard"), GuardPorts: []uint16{4789},
		Unguarded: rapid.Bool().Draw(t, "unguarded")}
	w.d.SetSettings(w.cfg.Settings)
}

// nic changes what an operator may change; the NIC refuses what does not fit.
func (w *world) nic(t *rapid.T) {
	p := w.PFs()[rapid.IntRange(0, 1).Draw(t, "pf")]
	switch pick(t, "what", "down", "up", "up", "encap none", "encap basic", "vf", "no vf", "legacy", "switchdev") {
	case "down":
		p.SetUp(false)
	case "up":
		p.SetUp(true)
	case "encap none":
		_ = p.SetEncap("none")
	case "encap basic":
		_ = p.SetEncap("basic")
	case "vf":
		_ = p.SetVFIPsec(0, "ipsec_packet", true)
	case "no vf":
		_ = p.SetVFIPsec(0, "ipsec_packet", false)
	case "legacy":
		_ = p.SetMode("legacy")
	case "switchdev":
		_ = p.SetMode("switchdev")
	}
}

// address moves the second address of pf0 about.
func (w *world) address(t *rapid.T) {
	a := netip.MustParsePrefix("10.0.0.11/24")
	w.DelAddr(a.Addr())
	if dev := pick(t, "to", 0, 2, 4, 5); dev != 0 {
		w.AddAddr(a, dev)
	}
}

// stranger takes away some object, or all.
func (w *world) stranger(t *rapid.T) {
	ctx := context.Background()
	sas, _ := w.SAs(ctx)
	policies, _ := w.Policies(ctx)
	switch n := rapid.IntRange(0, len(sas)+len(policies)+1).Draw(t, "victim"); {
	case n < len(sas):
		w.Do(ctx, []xfrm.Op{{Kind: xfrm.DeleteSA, SA: &sas[n]}})
	case n < len(sas)+len(policies):
		w.Do(ctx, []xfrm.Op{{Kind: xfrm.DeletePolicy, Policy: &policies[n-len(sas)]}})
	case n == len(sas)+len(policies):
		w.FlushStates()
	default:
		w.FlushPolicies()
	}
}

// foreign adds what is not ours: an IKE daemon's states and policies, between
// addresses that no port uses.
func (w *world) foreign(t *rapid.T) {
	dev := pick(t, "dev", 0, 4, 5)
	off := xfrm.Offload{Ifindex: dev, Packet: dev != 0}
	host, peer := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	if rapid.Bool().Draw(t, "state") {
		key, _ := xfrm.NewKey(make([]byte, xfrm.KeyLen))
		_ = w.AddState(fakenic.State{SA: xfrm.SA{Src: host, Dst: peer, SPI: pick[uint32](t, "spi", 0x1000, 0x1001), Reqid: 1, Dir: xfrm.Out, ESN: true, Key: key, Offload: off}})
		return
	}
	_ = w.AddPolicy(fakenic.Request{Policy: xfrm.Policy{Dir: pick(t, "dir", xfrm.In, xfrm.Out), Priority: pick[uint32](t, "priority", 1000, 399999),
		Sel: xfrm.Selector{Src: netip.PrefixFrom(host, 32), Dst: netip.PrefixFrom(peer, 32), Proto: 17, DstPort: pick[uint16](t, "port", 500, 4789)}, Offload: off}})
}

// fault strikes one of the next operations of the daemon.
func (w *world) fault(t *rapid.T) {
	f := fakenic.Fault{Nth: rapid.IntRange(1, 12).Draw(t, "nth"),
		Effect: pick(t, "effect", fakenic.Refuse, fakenic.Refuse, fakenic.Lose, fakenic.Before, fakenic.After, fakenic.NotOffload),
		Errno:  pick(t, "errno", unix.EBUSY, unix.EINVAL, unix.EEXIST, unix.ENOMEM, unix.ENODEV, unix.EPERM), Times: pick(t, "times", 1, 2, fakenic.Always)}
	switch {
	case f.Effect == fakenic.Before || f.Effect == fakenic.After:
		f.Times = 1
	case rapid.Bool().Draw(t, "everything"):
		f.Nth = 0
	}
	w.Faults.Set(f)
}

// act makes rounds.
func (w *world) act(t *rapid.T) {
	before := w.others()
	if err := w.settle(); err != nil {
		t.Fatalf("%v; the status is\n%s", err, w.text())
	}
	if diff := cmp.Diff(before, w.others()); diff != "" {
		t.Fatalf("the daemon touched what is not its own (-before +after):\n%s", diff)
	}
}

func (w *world) pass(t *rapid.T) {
	w.Clock.Advance(pick(t, "duration", time.Second, 31*time.Second, 6*time.Minute))
	w.act(t)
}

// others returns the objects that are not ours.
func (w *world) others() (lines []string) {
	for _, l := range w.dump() {
		if strings.Contains(l, "198.51.100.") {
			lines = append(lines, l)
		}
	}
	return lines
}

func (w *world) text() string { return w.statusText() }

// check is what must hold always.
func (w *world) check(t *rapid.T) {
	if err := w.sound(); err != nil {
		t.Fatal(err)
	}
	in, ob, plan, err := w.d.Look(context.Background())
	if err != nil {
		return // the database was not read yet
	}
	if v := plugin.Check(in, ob, plan); v != nil {
		t.Fatalf("%v\n%s", v, w.steps(plan))
	}
	_, _, again, _ := w.d.Look(context.Background())
	if diff := cmp.Diff(w.steps(plan), w.steps(again)); diff != "" {
		t.Fatalf("two plans for one world:\n%s", diff)
	}
	if diff := cmp.Diff(plan.Problems, again.Problems); diff != "" {
		t.Fatalf("two reasons for one world:\n%s", diff)
	}
}

func (w *world) steps(p plugin.Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%-7s %s\n", s.Phase, s.Text(w.Name))
	}
	return b.String()
}

// calm ends all faults, lets time pass and checks where that leads.
func (w *world) calm(t *rapid.T) {
	w.Faults.Set()
	w.OVS.SetState(ovsdb.State{Known: true, Connected: true})
	if err := w.calmDown(); err != nil {
		t.Fatal(err)
	}
	_, _, plan, err := w.d.Look(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	st := w.d.Last()
	if text := w.steps(plan); text != "" && !troubled(st) {
		t.Fatalf("steps are left for ever:\n%s%s", text, w.text())
	}
	w.truthful(t, st)
}

// troubled tells whether some step cannot be carried out, and the status says so.
func troubled(st plugin.Status) bool {
	return slices.ContainsFunc(st.Problems, xfrmProblem) ||
		slices.ContainsFunc(st.Pairs, func(p plugin.PairStatus) bool { return p.Problem != nil && xfrmProblem(*p.Problem) })
}

func xfrmProblem(p plugin.Problem) bool {
	return strings.HasPrefix(p.Code, "XFRM_") || strings.HasPrefix(p.Code, "NIC_BUSY_") || p.Code == "NIC_SA_LIMIT" || p.Code == "NIC_VF_IPSEC"
}

// truthful compares the status with what happens to packets.
func (w *world) truthful(t *rapid.T, st plugin.Status) {
	secure, clear := w.pairs()
	leaks := w.leaking()
	states := map[string]plugin.PairStatus{}
	for _, p := range st.Pairs {
		pair := fmt.Sprintf("%s > %s udp %d", p.Local, p.Remote, p.Port)
		states[pair] = p
		for way := range leaks {
			if strings.HasPrefix(way, pair+" ") && p.State != "unprotected" && p.PF != "" {
				t.Fatalf("%s leaks, and the status says %s\n%s", way, p.State, w.text())
			}
		}
		if p.Problem == nil && p.State != "encrypted" && p.State != "clear" {
			t.Fatalf("%s is %s, and the status says not why\n%s", pair, p.State, w.text())
		}
	}
	for _, p := range secure {
		if st := states[p.String()]; st.State == "encrypted" && st.Problem == nil {
			w.works(t, p)
		}
	}
	for _, p := range clear {
		f := w.SendHost(fakenic.Tunnel{Src: p.Local, Dst: p.Remote, Port: p.Port})
		if stopped := f.Way == fakenic.Blocked || f.Why == "XfrmOutPolBlock"; stopped && !troubled(st) && states[p.String()].Problem == nil {
			t.Fatalf("plain pair %s is stopped by %s, and nobody says why\n%s", p, f.Why, w.text())
		}
	}
}

// works checks that an encrypted pair sends ESP and takes that of its peer.
func (w *world) works(t *rapid.T, p plugin.Pair) {
	out := fakenic.Tunnel{Src: p.Local, Dst: p.Remote, Port: p.Port}
	if f := w.SendHost(out); f.Way != fakenic.Crypted {
		t.Fatalf("%s is said to be encrypted, and sends %v\n%s", p, f, w.text())
	}
	in, _, _, err := w.d.Look(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, pi := range in.Pairs {
		if pi.Pair != p || pi.Want != plugin.Encrypt {
			continue
		}
		k := fakenic.Tunnel{Src: p.Remote, Dst: p.Local, Port: p.Port}.Frame()
		k.ESP = &fakenic.ESP{SPI: pi.Keys.InSPI, Key: pi.Keys.InPrint}
		for _, pf := range w.PFs() {
			if pf.Ifindex() != pi.PF {
				continue
			}
			if f := pf.Receive(k); f.Way != fakenic.Crypted {
				t.Fatalf("%s is said to be encrypted, and what its peer sends is %v\n%s", p, f, w.text())
			}
		}
	}
}
