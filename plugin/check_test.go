// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// good returns a world and a plan for it that breaks nothing: a bypass and a
// pair change, two pairs come, one goes with its SAs, flows may be offloaded.
func good(t *testing.T) (plugin.Intent, plugin.Observed, plugin.Plan) {
	t.Helper()
	r := standardRig()
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		r.Keys.Make(k)
	}
	r.OVS.SetPort(secure("gone", "10.0.0.1", "10.0.0.2", "a"), secure("changed", "10.0.0.1", "10.0.0.3", "b"), plain("plain", "10.0.0.1", "10.0.0.4"))
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
	r.OVS.DelPort("gone")
	r.OVS.SetPort(secure("changed", "10.0.0.1", "10.0.0.3", "c"), secure("plain", "10.0.0.1", "10.0.0.4", "d"), secure("new", "10.0.0.1", "10.0.0.5", "e"))
	in, ob, _, err := r.d.Look(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for id := range ob.UnwantedFor { // nobody has wanted them for long
		ob.UnwantedFor[id] = ob.RetireAfter
	}
	plan := plugin.MakePlan(in, ob)
	if v := plugin.Check(in, ob, plan); v != nil {
		t.Fatal(v)
	}
	return in, ob, plan
}

// TestCheckCatches damages a good plan in every way that would matter and wants
// the damage named.
func TestCheckCatches(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, in *plugin.Intent, ob *plugin.Observed, p *plugin.Plan)
		want   string
	}{
		{"the allow policy before its SA", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			swap(p, stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.5"), stepOf(t, p, plugin.Send, xfrm.AddPolicy, "10.0.0.5"))
		}, "I2"},
		{"the SA before its ledger entry", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			swap(p, reserveOf(t, p, "e"), stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.5"))
		}, "I6"},
		{"no ledger entry", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			drop(p, reserveOf(t, p, "e"))
		}, "I6"},
		{"a key that was used", func(t *testing.T, _ *plugin.Intent, ob *plugin.Observed, _ *plugin.Plan) {
			ob.Spent = func(xfrm.Fingerprint) bool { return true }
		}, "I6"},
		{"a key twice in the plan", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			i, j := stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.5"), stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.3")
			p.Steps[j].Keys = p.Steps[i].Keys
		}, "I6"},
		{"sending before receiving", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			drop(p, stepOf(t, p, plugin.Accept, xfrm.AddSA, "10.0.0.5"))
		}, "I3"},
		{"the bypass of an encrypted pair stays", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			drop(p, stepOf(t, p, plugin.Block, xfrm.DeletePolicy, "10.0.0.4"))
			drop(p, stepOf(t, p, plugin.Send, xfrm.AddPolicy, "10.0.0.4"))
		}, "I2"},
		{"the SA before its policy", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			swap(p, stepOf(t, p, plugin.Retire, xfrm.DeleteSA, "10.0.0.2"), stepOf(t, p, plugin.Retire, xfrm.DeletePolicy, "10.0.0.2"))
		}, "I2"},
		{"an SA whose policy stays", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			drop(p, stepOf(t, p, plugin.Retire, xfrm.DeletePolicy, "10.0.0.2"))
		}, "I2"},
		{"a guard goes", func(t *testing.T, _ *plugin.Intent, ob *plugin.Observed, p *plugin.Plan) {
			p.Steps = append(p.Steps, plugin.Step{Phase: plugin.Retire, Verb: plugin.Change, Op: xfrm.Op{Kind: xfrm.DeletePolicy, Policy: guardOf(t, ob)}})
		}, "I2"},
		{"an earlier phase after a later one", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			swap(p, stepOf(t, p, plugin.Block, xfrm.DeletePolicy, "10.0.0.4"), stepOf(t, p, plugin.Accept, xfrm.AddSA, "10.0.0.5"))
		}, "order"},
		{"two SAs with one reqid", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			i, j := stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.3"), stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.5")
			sa := *p.Steps[j].Op.SA
			sa.Reqid, sa.Dst, sa.SPI = p.Steps[i].Op.SA.Reqid, p.Steps[i].Op.SA.Dst, p.Steps[i].Op.SA.SPI
			p.Steps[j].Op.SA = &sa
		}, "I2"},
		{"a step that holds a key", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			i := stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.5")
			sa := *p.Steps[i].Op.SA
			sa.Key, _ = xfrm.NewKey(bytes.Repeat([]byte{1}, xfrm.KeyLen))
			p.Steps[i].Op.SA = &sa
		}, "I7"},
		{"a stranger's policy", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			i := stepOf(t, p, plugin.Retire, xfrm.DeletePolicy, "10.0.0.2")
			pol := *p.Steps[i].Op.Policy
			pol.Priority = 1000
			p.Steps[i].Op.Policy = &pol
		}, "I5"},
		{"a stranger's SA", func(t *testing.T, _ *plugin.Intent, _ *plugin.Observed, p *plugin.Plan) {
			i := stepOf(t, p, plugin.Retire, xfrm.DeleteSA, "10.0.0.2")
			sa := *p.Steps[i].Op.SA
			sa.Reqid = 1
			p.Steps[i].Op.SA = &sa
		}, "I5"},
		{"the first object of a table after flows", func(t *testing.T, _ *plugin.Intent, ob *plugin.Observed, _ *plugin.Plan) {
			ob.SAs, ob.Policies, ob.Flows = nil, nil, map[int]int{4: 1}
		}, "I1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in, ob, plan := good(t)
			test.damage(t, &in, &ob, &plan)
			v := plugin.Check(in, ob, plan)
			if v == nil {
				t.Fatal("not caught")
			}
			if v.Invariant != test.want {
				t.Errorf("caught as %v, not as %s", v, test.want)
			}
		})
	}
}

// TestCheckCatchesTheGate damages a plan that opens the gate.
func TestCheckCatchesTheGate(t *testing.T) {
	first := func(t *testing.T) (plugin.Intent, plugin.Observed, plugin.Plan) {
		r := standardRig()
		r.cfg.Settings.GuardAuto = false
		r.restart()
		r.Keys.Make("a")
		r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "a"))
		in, ob, plan, err := r.d.Look(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if v := plugin.Check(in, ob, plan); v != nil {
			t.Fatal(v)
		}
		return in, ob, plan
	}
	t.Run("no guards", func(t *testing.T) {
		in, ob, plan := first(t)
		plan.Steps = slices.DeleteFunc(plan.Steps, func(s plugin.Step) bool { return s.Guard })
		if v := plugin.Check(in, ob, plan); v == nil {
			t.Error("not caught")
		}
	})
	t.Run("the gate first", func(t *testing.T) {
		in, ob, plan := first(t)
		open := plan.Steps[len(plan.Steps)-1]
		if open.Verb != plugin.OpenGate {
			t.Fatalf("the last step is %v", open)
		}
		open.Phase = plugin.Anchor
		plan.Steps = slices.Insert(plan.Steps[:len(plan.Steps)-1], 0, open)
		if v := plugin.Check(in, ob, plan); v == nil || v.Invariant != "I1" {
			t.Errorf("caught as %v, not as I1", v)
		}
	})
	t.Run("the last object of a table", func(t *testing.T) {
		in, ob, plan := first(t)
		ob.GateOpen = true
		sa := *plan.Steps[stepOf(t, &plan, plugin.Send, xfrm.AddSA, "10.0.0.2")].Op.SA
		ob.SAs = []xfrm.SA{sa}
		plan.Steps = []plugin.Step{{Phase: plugin.Retire, Verb: plugin.Change, Op: xfrm.Op{Kind: xfrm.DeleteSA, SA: &sa}}}
		if v := plugin.Check(in, ob, plan); v == nil || v.Invariant != "I4" {
			t.Errorf("caught as %v, not as I4", v)
		}
	})
}

// TestUndoIsSafe undoes each prefix of a good plan and wants no clear text.
func TestUndoIsSafe(t *testing.T) {
	in, ob, plan := good(t)
	for n := range plan.Steps {
		undone := plugin.Plan{Stuck: plan.Stuck, Steps: slices.Clone(plan.Steps[:n+1])}
		for i := n; i >= 0; i-- {
			if back, can := plugin.Undo(plan.Steps[i]); can {
				back.Phase = plugin.Retire // an undo is in no phase
				undone.Steps = append(undone.Steps, back)
			}
		}
		if v := plugin.Check(in, ob, undone); v != nil && v.Step < len(undone.Steps) {
			t.Errorf("undoing %d steps: %v", n+1, v)
		}
	}
}

// stepOf returns the index of a step about a peer.
func stepOf(t *testing.T, p *plugin.Plan, ph plugin.Phase, kind xfrm.OpKind, peer string) int {
	t.Helper()
	i := slices.IndexFunc(p.Steps, func(s plugin.Step) bool {
		if s.Verb != plugin.Change || s.Phase != ph || s.Op.Kind != kind {
			return false
		}
		if s.Op.SA != nil {
			return s.Op.SA.Dst.String() == peer || s.Op.SA.Src.String() == peer
		}
		return s.Op.Policy.Dir == xfrm.Out && s.Op.Policy.Sel.Dst.Addr().String() == peer
	})
	if i < 0 {
		t.Fatalf("no step %s %s of %s", ph, kind, peer)
	}
	return i
}

func reserveOf(t *testing.T, p *plugin.Plan, keys string) int {
	t.Helper()
	i := slices.IndexFunc(p.Steps, func(s plugin.Step) bool { return s.Verb == plugin.Reserve && s.Keys.Name == keys })
	if i < 0 {
		t.Fatalf("no reservation of %s", keys)
	}
	return i
}

func guardOf(t *testing.T, ob *plugin.Observed) *xfrm.Policy {
	t.Helper()
	for i := range ob.Policies {
		if p := &ob.Policies[i]; p.Priority == plugin.PriorityGuard && p.Dir == xfrm.Out && p.Sel.Src.Addr().String() == "10.0.0.1" {
			return p
		}
	}
	t.Fatal("no guard")
	return nil
}

func swap(p *plugin.Plan, i, j int) { p.Steps[i], p.Steps[j] = p.Steps[j], p.Steps[i] }

func drop(p *plugin.Plan, i int) { p.Steps = slices.Delete(p.Steps, i, i+1) }

// TestCheckCatchesUnguarded damages a plan for a card in which no guard can stand.
func TestCheckCatchesUnguarded(t *testing.T) {
	anchor := func(s plugin.Step) bool { return s.Guard && s.Op.Policy.Priority == 0 }
	tests := []struct {
		name   string
		damage func(t *testing.T, ob *plugin.Observed, p *plugin.Plan)
		want   string
	}{
		{"nothing", func(*testing.T, *plugin.Observed, *plugin.Plan) {}, ""},
		{"the gate opens without tables", func(t *testing.T, _ *plugin.Observed, p *plugin.Plan) {
			p.Steps = slices.DeleteFunc(p.Steps, func(s plugin.Step) bool { return s.Verb != plugin.OpenGate })
		}, "I1"},
		{"what holds the tables goes", func(t *testing.T, _ *plugin.Observed, p *plugin.Plan) {
			a := p.Steps[slices.IndexFunc(p.Steps, anchor)]
			a.Phase, a.Op.Kind = plugin.Retire, xfrm.DeletePolicy
			p.Steps = append(p.Steps, a)
		}, "I4"},
		{"a pair's block goes", func(t *testing.T, _ *plugin.Observed, p *plugin.Plan) {
			i := slices.IndexFunc(p.Steps, func(s plugin.Step) bool { return s.Phase == plugin.Anchor && s.Pair != plugin.Pair{} })
			b := p.Steps[i]
			b.Phase, b.Op.Kind = plugin.Block, xfrm.DeletePolicy
			p.Steps = append(p.Steps[:i+1], append([]plugin.Step{b}, slices.DeleteFunc(slices.Clone(p.Steps[i+1:]), func(s plugin.Step) bool { return s.Phase < plugin.Block })...)...)
		}, "I2"},
		{"the allow policy before its SA", func(t *testing.T, _ *plugin.Observed, p *plugin.Plan) {
			swap(p, stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.2"), stepOf(t, p, plugin.Send, xfrm.UpdatePolicy, "10.0.0.2"))
		}, "I2"},
		{"a table made after flows", func(t *testing.T, ob *plugin.Observed, _ *plugin.Plan) {
			ob.Flows = map[int]int{4: 1}
		}, "I1"},
		{"a stranger's block", func(t *testing.T, _ *plugin.Observed, p *plugin.Plan) {
			i := slices.IndexFunc(p.Steps, anchor)
			pol := *p.Steps[i].Op.Policy
			pol.Tmpl = nil
			p.Steps[i].Op.Policy = &pol
		}, "I5"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := standardRig()
			r.cfg.Settings.Unguarded = true
			r.restart()
			r.PF("pf0").Set(func(k *fakenic.Knobs) { k.NoPriority = true })
			if err := r.settle(); err != nil { // shows that it knows no priorities
				t.Fatal(err)
			}
			r.FlushPolicies()
			r.Keys.Make("a")
			r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "a"))
			in, ob, plan, err := r.d.Look(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			test.damage(t, &ob, &plan)
			v := plugin.Check(in, ob, plan)
			if v == nil && test.want == "" {
				return
			}
			if v == nil || v.Invariant != test.want {
				t.Errorf("caught as %v, not as %q", v, test.want)
			}
		})
	}
}
