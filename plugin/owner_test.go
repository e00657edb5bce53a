// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"net/netip"
	"strings"
	"testing"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// stranger lets somebody else make a state or a policy.
func (r *rig) stranger(t *testing.T, op xfrm.Op) {
	t.Helper()
	if err := r.Do(t.Context(), []xfrm.Op{op})[0]; err != nil {
		t.Fatal(err)
	}
}

func strangeSA(t *testing.T, src, dst string, d xfrm.Dir, pf int) xfrm.Op {
	t.Helper()
	key, ok := xfrm.NewKey([]byte(strings.Repeat("k", xfrm.KeyLen)))
	if !ok {
		t.Fatal("no key")
	}
	s := &xfrm.SA{Src: addr(src), Dst: addr(dst), SPI: 0x1234, Reqid: 7, Dir: d, ESN: true, Key: key}
	if d == xfrm.In {
		s.Window = 32
	}
	if pf != 0 {
		s.Offload = xfrm.Offload{Ifindex: pf, Packet: true}
	}
	return xfrm.Op{Kind: xfrm.AddSA, SA: s}
}

func strangePolicy(change func(*xfrm.Policy)) xfrm.Op {
	p := &xfrm.Policy{Dir: xfrm.Out, Priority: 1000, Action: xfrm.Allow, Offload: xfrm.Offload{Ifindex: 4, Packet: true},
		Sel: xfrm.Selector{Src: netip.MustParsePrefix("10.0.0.1/32"), Dst: netip.MustParsePrefix("10.0.0.2/32"), Proto: 17}}
	change(p)
	return xfrm.Op{Kind: xfrm.AddPolicy, Policy: p}
}

// twoPairs asks for 10.0.0.1 > 10.0.0.2 and > 10.0.0.3, where guards stand.
func (r *rig) twoPairs(t *testing.T) {
	t.Helper()
	r.Keys.Make("ab")
	r.Keys.Make("ac")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"), secure("vx1", "10.0.0.1", "10.0.0.3", "ac"))
	r.mustSettle(t)
}

// wantPair checks the state and the code of the first pair; the second is encrypted.
func (r *rig) wantPair(t *testing.T, state, code string) plugin.PairStatus {
	t.Helper()
	ps := r.d.Last().Pairs
	got := ""
	if ps[0].Problem != nil {
		got = ps[0].Problem.Code
	}
	if ps[0].State != state || got != code {
		t.Errorf("%s is %s with code %q, want %s with %q", ps[0].Remote, ps[0].State, got, state, code)
	}
	if ps[1].State != "encrypted" {
		t.Errorf("%s is %s", ps[1].Remote, ps[1].State)
	}
	return ps[0]
}

func TestStrangersSA(t *testing.T) {
	for _, c := range []struct{ name, src, dst, code string }{
		{"outbound", "10.0.0.1", "10.0.0.2", "OWNER_FOREIGN_SA"},
		{"inbound", "10.0.0.2", "10.0.0.1", "OWNER_FOREIGN_SA"},
		{"of another pair", "10.0.0.1", "10.0.0.9", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := standardRig()
			d := xfrm.Out
			if c.dst == "10.0.0.1" {
				d = xfrm.In
			}
			op := strangeSA(t, c.src, c.dst, d, 4)
			r.stranger(t, op)
			r.twoPairs(t)
			if c.code == "" {
				r.wantPair(t, "encrypted", "")
				return
			}
			p := r.wantPair(t, "blocked", c.code)
			if want := "`ip xfrm state delete src " + c.src + " dst " + c.dst + " proto esp spi 0x00001234`"; !strings.Contains(p.Problem.Text, want) {
				t.Errorf("%s: no %s", p.Problem.Text, want)
			}
			r.stranger(t, xfrm.Op{Kind: xfrm.DeleteSA, SA: op.SA})
			r.mustSettle(t)
			r.wantPair(t, "encrypted", "")
		})
	}
}

func TestStrangersInSoftwareAreNoMatter(t *testing.T) {
	r := standardRig()
	r.stranger(t, strangeSA(t, "10.0.0.1", "10.0.0.2", xfrm.Out, 0))
	r.twoPairs(t)
	r.wantPair(t, "encrypted", "")
}

func TestStrangersPolicy(t *testing.T) {
	for _, c := range []struct {
		name, state, code string
		change            func(*xfrm.Policy)
	}{
		{"clear text", "unprotected", "OWNER_FOREIGN_POLICY", func(*xfrm.Policy) {}},
		{"for the port", "unprotected", "OWNER_FOREIGN_POLICY", func(p *xfrm.Policy) { p.Sel.DstPort = 4789 }},
		{"a stranger's block", "blocked", "OWNER_FOREIGN_POLICY", func(p *xfrm.Policy) { p.Action = xfrm.Block }},
		{"with an SA", "blocked", "OWNER_FOREIGN_POLICY", func(p *xfrm.Policy) {
			p.Tmpl = &xfrm.Template{Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Reqid: 7}
		}},
		{"for another port", "encrypted", "", func(p *xfrm.Policy) { p.Sel.DstPort = 53 }},
		{"an IKE daemon's own", "encrypted", "", func(p *xfrm.Policy) { p.Sel.SrcPort = 500 }},
		{"for TCP", "encrypted", "", func(p *xfrm.Policy) { p.Sel.Proto = 6 }},
		{"in software", "encrypted", "", func(p *xfrm.Policy) { p.Offload = xfrm.Offload{} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := standardRig()
			r.stranger(t, strangePolicy(c.change))
			r.twoPairs(t)
			r.wantPair(t, c.state, c.code)
		})
	}
}

// A pair that is encrypted goes on when a stranger comes later.
func TestStrangerComesLater(t *testing.T) {
	r := standardRig()
	r.twoPairs(t)
	r.stranger(t, strangeSA(t, "10.0.0.1", "10.0.0.2", xfrm.Out, 4))
	r.mustSettle(t)
	r.wantPair(t, "encrypted", "")
}

func TestRivals(t *testing.T) {
	r := standardRig()
	var rivals []plugin.Problem
	r.cfg.Rivals = func() []plugin.Problem { return rivals }
	r.restart()
	r.twoPairs(t)
	r.wantPair(t, "encrypted", "")
	rivals = []plugin.Problem{{Code: "OWNER_RIVAL", Text: "ovs-monitor-ipsec runs"}}
	r.round()
	if st := r.d.Last(); st.State != plugin.Degraded || len(st.Problems) != 1 || st.Problems[0].Code != "OWNER_RIVAL" {
		t.Errorf("%s: %v", st.State, st.Problems)
	}
	r.wantPair(t, "encrypted", "")
	rivals = nil
	r.round()
	if st := r.d.Last(); st.State != plugin.OK {
		t.Errorf("%s: %v", st.State, st.Problems)
	}
}
