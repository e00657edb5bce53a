// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// TestTwoHosts joins two hypervisors back to back. Their operators, their
// strangers and their daemons act in any order, and one daemon's round falls
// between any two operations of the other's. Nothing that either daemon does lets
// clear text out, no key is installed twice, and when the operators have agreed
// on keys everything passes, encrypted, both ways.
func TestTwoHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWire(t)
		t.Repeat(map[string]func(*rapid.T){
			"":         w.check,
			"port":     w.port,
			"port-2":   w.port,
			"del-port": func(t *rapid.T) { w.host(t).OVS.DelPort(pick(t, "name", linkNames()...)) },
			"keys":     w.keys,
			"lose":     w.lose,
			"ovs":      w.ovs,
			"operator": w.operator,
			"restart":  w.restart,
			"round":    w.act,
			"round-2":  w.act,
			"both":     w.both,
			"time":     w.pass,
		})
		w.agree(t)
	})
}

// wire is two hypervisors on one wire.
type wire [2]*rig

// link is a tunnel between the two: the addresses of its ends.
type link struct {
	ends [2]string
	port uint16
}

var links = map[string]link{
	"v4": {[2]string{"10.0.0.1", "10.0.0.2"}, 4789},
	"v6": {[2]string{"fd00::1", "fd00::2"}, 4789},
	"4x": {[2]string{"10.0.0.1", "10.0.0.2"}, 4790},
}

func linkNames() []string { return []string{"v4", "v6", "4x"} }

func newWire(t *rapid.T) *wire {
	w := &wire{}
	after, strict := rapid.Bool().Draw(t, "after decrypt"), rapid.IntRange(0, 3).Draw(t, "strict") == 0
	for i := range w {
		r := newRig()
		r.AddPF("pf0", 4)
		r.AddAddr(netip.MustParsePrefix([]string{"10.0.0.1/24", "10.0.0.2/24"}[i]), 4)
		r.AddAddr(netip.MustParsePrefix([]string{"fd00::1/64", "fd00::2/64"}[i]), 4)
		r.PF("pf0").Set(func(k *fakenic.Knobs) { k.AfterDecrypt, k.StrictSA = after, strict })
		r.Keys.Far = i == 1
		r.cfg.Settings.Retrofit = pick(t, "retrofit", plugin.RetrofitAsk, plugin.RetrofitAuto)
		r.cfg.Settings.DrainForSAs = rapid.Bool().Draw(t, "drain for SAs")
		r.restart()
		r.watch()
		w[i] = r
	}
	w.join()
	return w
}

// join lets each host's probes come to the other one.
func (w *wire) join() {
	for i, r := range w {
		r.probed = func(f fakenic.Fate) { w.deliver(i, f) }
	}
}

// deliver takes what host i sent to the other one, and returns what becomes of it.
func (w *wire) deliver(i int, f fakenic.Fate) fakenic.Fate {
	k := f.Frame
	if f.Way != fakenic.Crypted {
		return f
	}
	sas, _ := w[i].SAs(context.Background())
	for j := range sas {
		if sas[j].Dir == xfrm.Out && sas[j].SPI == f.SPI && sas[j].Dst == k.Dst {
			k.ESP = &fakenic.ESP{SPI: f.SPI, Key: sas[j].KeyPrint}
		}
	}
	return w[1-i].PF("pf0").Receive(k)
}

func (w *wire) host(t *rapid.T) *rig { return w[rapid.IntRange(0, 1).Draw(t, "host")] }

// tunnel returns the port of a link on host i.
func tunnel(name string, i int, keys string) ovsdb.Tunnel {
	l := links[name]
	p := plain(name, l.ends[i], l.ends[1-i])
	if keys != "" {
		p = secure(name, l.ends[i], l.ends[1-i], keys)
	}
	p.DstPort = l.port
	return p
}

// port adds a port or changes it, on one end or on both.
func (w *wire) port(t *rapid.T) {
	name := pick(t, "name", linkNames()...)
	keys := pick(t, "keys", "", "k0", "k1", "k2", "k3")
	where := rapid.IntRange(0, 3).Draw(t, "where")
	for i, r := range w {
		if where == i || where > 1 {
			r.OVS.SetPort(tunnel(name, i, keys))
		}
	}
}

// keys brings a new set to both ends, or late to one of them.
func (w *wire) keys(t *rapid.T) {
	name := pick(t, "name", "k0", "k1", "k2", "k3")
	for _, r := range w {
		r.Keys.Make(name)
	}
	switch late := w.host(t); pick(t, "what", "both", "both", "late", "came") {
	case "late":
		late.Keys.Remove(name)
	case "came":
		for _, n := range late.Keys.Names() {
			late.Keys.Restore(n)
		}
	}
}

// lose takes something out of one host's kernel.
func (w *wire) lose(t *rapid.T) {
	r := w.host(t)
	switch pick(t, "what", "states", "policies", "all", "down", "up", "one") {
	case "states":
		r.FlushStates()
	case "policies":
		r.FlushPolicies()
	case "all":
		r.FlushStates()
		r.FlushPolicies()
	case "down":
		r.PF("pf0").SetUp(false)
	case "up":
		r.PF("pf0").SetUp(true)
	case "one":
		sas, _ := r.SAs(context.Background())
		if len(sas) > 0 {
			r.Do(context.Background(), []xfrm.Op{{Kind: xfrm.DeleteSA, SA: &sas[rapid.IntRange(0, len(sas)-1).Draw(t, "SA")]}})
		}
	}
	if rapid.Bool().Draw(t, "seen at once") {
		r.d.Alarm()
	}
}

func (w *wire) ovs(t *rapid.T) {
	r := w.host(t)
	switch pick(t, "what", "stop", "start", "kill", "true", "linger", "settle") {
	case "stop":
		r.OVS.Stop()
	case "start":
		r.OVS.Start()
	case "kill":
		r.OVS.Kill()
	case "true": // with a tunnel there: a host that is to be retrofitted
		r.OVS.Offload("true")
	case "linger":
		r.OVS.Linger = !r.OVS.Linger
	case "settle":
		r.OVS.Settle()
	}
}

func (w *wire) operator(t *rapid.T) {
	r := w.host(t)
	switch pick(t, "what", "repair", "park", "unpark", "unpark") {
	case "repair":
		r.d.Repair()
	case "park", "unpark":
		r.cfg.Parked = !r.cfg.Parked && r.d.Last().State != plugin.Waiting
		r.d.Park(r.cfg.Parked)
	}
}

func (w *wire) restart(t *rapid.T) { w.host(t).restart() }

func (w *wire) act(t *rapid.T) { w.settle(t, rapid.IntRange(0, 1).Draw(t, "host")) }

func (w *wire) settle(t *rapid.T, i int) {
	if err := w[i].settle(); err != nil {
		t.Fatalf("hv%d: %v\n%s", i+1, err, w.text())
	}
}

// both lets a round of one daemon fall between two operations of the other's.
func (w *wire) both(t *rapid.T) {
	i, left := rapid.IntRange(0, 1).Draw(t, "host"), rapid.IntRange(1, 12).Draw(t, "operation")
	judge := w[i].Changed
	defer func() { w[i].Changed = judge }()
	w[i].Changed = func(op xfrm.Op) {
		judge(op)
		if left--; left == 0 {
			w[1-i].round()
		}
	}
	w.settle(t, i)
}

func (w *wire) pass(t *rapid.T) {
	d := pick(t, "duration", time.Second, 31*time.Second, 6*time.Minute)
	for i, r := range w {
		r.Clock.Advance(d)
		w.settle(t, i)
	}
}

// check is what must hold always.
func (w *wire) check(t *rapid.T) {
	for i, r := range w {
		if len(r.w.breaches) > 0 {
			t.Fatalf("hv%d: %s\n%s", i+1, r.w.breaches[0], w.text())
		}
		if twice := r.twice(); len(twice) > 0 {
			t.Fatalf("hv%d: outbound keys installed twice: %v", i+1, twice)
		}
		if err := r.wolf(); err != nil {
			t.Fatalf("hv%d: %v\n%s", i+1, err, w.text())
		}
		for _, n := range r.Keys.Names() {
			for _, f := range r.Keys.OutPrints(n) {
				if w[1-i].Sent(f) > 0 {
					t.Fatalf("both ends send with a key of %s", n)
				}
			}
		}
	}
}

// agree ends all disturbances, and the operators give every tunnel that asks for
// IPsec on either end new keys.
func (w *wire) agree(t *rapid.T) {
	for i, r := range w {
		r.PF("pf0").SetUp(true)
		r.OVS.Start()
		r.OVS.Linger, r.cfg.Parked = false, false
		r.d.Park(false)
		w.repair(t, i)
	}
	for _, name := range linkNames() {
		if w.asks(name) {
			for i, r := range w {
				r.Keys.Make("agreed-" + name)
				r.OVS.SetPort(tunnel(name, i, "agreed-"+name))
			}
		}
	}
	for range 2 {
		for i := range w {
			w.repair(t, i)
			w.talk()
		}
	}
	w.check(t)
	for _, name := range linkNames() {
		for i := range w {
			if err := w.carries(name, i); w.asks(name) && err != nil {
				t.Fatalf("%s, hv%d to hv%d: %v\n%s", name, i+1, 2-i, err, w.text())
			}
		}
	}
}

// talk sends a packet each way by every tunnel that asks for IPsec.
func (w *wire) talk() {
	for i, r := range w {
		for _, p := range r.securePairs() {
			w.deliver(i, r.SendHost(fakenic.Tunnel{Src: p.Local, Dst: p.Remote, Port: p.Port}))
		}
	}
}

// repair is the operator's word on host i, and the time that it takes to have its effect.
func (w *wire) repair(t *rapid.T, i int) {
	w[i].d.Repair()
	w.settle(t, i)
	if err := errors.Join(w[i].calmDown(), w[i].explained()); err != nil {
		t.Fatalf("hv%d: %v\n%s", i+1, err, w.text())
	}
}

// asks tells whether a port of that name asks for IPsec on either end.
func (w *wire) asks(name string) bool {
	for _, r := range w {
		snap, _ := r.OVS.Current()
		for _, p := range snap.Tunnels {
			if p.Name == name && p.IPsec {
				return true
			}
		}
	}
	return false
}

// carries sends a packet from host i to the other by every way there is.
func (w *wire) carries(name string, i int) error {
	l := links[name]
	p := plugin.Pair{Local: netip.MustParseAddr(l.ends[i]), Remote: netip.MustParseAddr(l.ends[1-i]), Port: l.port}
	set, err := w[i].Keys.Lookup("agreed-" + name)
	if err != nil {
		return err
	}
	for way, f := range w[i].ways(p) {
		if f.Way != fakenic.Crypted || f.SPI != set.OutSPI {
			return fmt.Errorf("%s: %s with SPI 0x%x, want esp with 0x%x: %s", way, f.Way, f.SPI, set.OutSPI, f.Why)
		}
		k := f.Frame
		k.ESP = &fakenic.ESP{SPI: f.SPI, Key: set.OutPrint}
		if in := w[1-i].PF("pf0").Receive(k); in.Way != fakenic.Crypted {
			return fmt.Errorf("%s: the other end makes %s of it: %s", way, in.Way, in.Why)
		}
	}
	return nil
}

func (w *wire) text() string { return w[0].statusText() + "\n" + w[1].statusText() }
