// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"slices"
	"testing"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// rotating returns a host that is told a new key set, with the plan for that.
func rotating(t *testing.T) (plugin.Intent, plugin.Observed, plugin.Plan) {
	t.Helper()
	r := standardRig()
	r.Keys.Make("old")
	r.Keys.Make("new")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "old"))
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "new"))
	in, ob, plan, err := r.d.Look(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if v := plugin.Check(in, ob, plan); v != nil {
		t.Fatal(v)
	}
	return in, ob, plan
}

// TestCheckCatchesRotation damages the plan of a change of keys.
func TestCheckCatchesRotation(t *testing.T) {
	probe := func(t *testing.T, p *plugin.Plan) int {
		i := slices.IndexFunc(p.Steps, func(s plugin.Step) bool { return s.Op.Policy != nil && s.Op.Policy.Sel.SrcPort == plugin.ProbePort })
		if i < 0 {
			t.Fatal("no policy for probes")
		}
		return i
	}
	tests := []struct {
		name   string
		damage func(t *testing.T, ob *plugin.Observed, p *plugin.Plan)
		want   string
	}{
		{"traffic turns without proof", func(t *testing.T, _ *plugin.Observed, p *plugin.Plan) {
			s := p.Steps[probe(t, p)]
			pol := *s.Op.Policy
			pol.Sel.SrcPort, pol.Priority = 0, plugin.PriorityAllow
			s.Op.Kind, s.Op.Policy = xfrm.UpdatePolicy, &pol
			p.Steps = append(p.Steps, s)
		}, "I3"},
		{"probes before their SA", func(t *testing.T, _ *plugin.Observed, p *plugin.Plan) {
			swap(p, probe(t, p), stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.2"))
		}, "I2"},
		{"probes by the old SA", func(t *testing.T, ob *plugin.Observed, p *plugin.Plan) {
			i := probe(t, p)
			pol := *p.Steps[i].Op.Policy
			tmpl := *pol.Tmpl
			for j := range ob.SAs {
				if ob.SAs[j].Dir == xfrm.Out {
					tmpl.Reqid = ob.SAs[j].Reqid
				}
			}
			pol.Tmpl = &tmpl
			p.Steps[i].Op.Policy = &pol
		}, "I3"},
		{"the SA goes under the probes", func(t *testing.T, _ *plugin.Observed, p *plugin.Plan) {
			s := p.Steps[stepOf(t, p, plugin.Send, xfrm.AddSA, "10.0.0.2")]
			s.Phase, s.Op.Kind = plugin.Retire, xfrm.DeleteSA
			p.Steps = append(p.Steps, s)
		}, "I2"},
		{"the old SA goes while it is used", func(t *testing.T, ob *plugin.Observed, p *plugin.Plan) {
			for j := range ob.SAs {
				if sa := ob.SAs[j]; sa.Dir == xfrm.Out {
					p.Steps = append(p.Steps, plugin.Step{Phase: plugin.Retire, Verb: plugin.Change, Op: xfrm.Op{Kind: xfrm.DeleteSA, SA: &sa}})
				}
			}
		}, "I2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in, ob, plan := rotating(t)
			test.damage(t, &ob, &plan)
			if v := plugin.Check(in, ob, plan); v == nil || v.Invariant != test.want {
				t.Errorf("caught as %v, not as %s", v, test.want)
			}
		})
	}
}

// TestRotateRefuses asks for sets that a pair could not change to.
func TestRotateRefuses(t *testing.T) {
	r := standardRig()
	for _, k := range []string{"used", "other", "good"} {
		r.Keys.Make(k)
	}
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "used"), secure("vx1", "10.0.0.1", "10.0.0.3", "other"), plain("plain", "10.0.0.1", "10.0.0.4"))
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
	r.FlushStates()
	for _, test := range []struct{ port, keys, code string }{
		{"vx0", "good", ""}, {"vx0", "used", "KEY_USED"}, {"vx0", "other", "KEY_USED"}, {"vx0", "nothing", "KEY_MISSING"},
		{"nobody", "good", "ROTATE_PORT"}, {"plain", "good", "ROTATE_PORT"},
	} {
		rot, err := r.d.Rotate(context.Background(), test.port, test.keys, false)
		if test.code == "" {
			if err != nil || !slices.Equal(rot.Ports, []string{"vx0"}) {
				t.Errorf("%s to %s: %v, %v", test.port, test.keys, rot, err)
			}
			continue
		}
		if got := plugin.CodeOf(err); got != test.code {
			t.Errorf("%s to %s: %v, want %s", test.port, test.keys, err, test.code)
		}
	}
	r.Keys.Make("other")
	r.OVS.SetPort(secure("vx1", "10.0.0.1", "10.0.0.3", "other"))
	if _, err := r.d.Rotate(context.Background(), "vx0", "other", false); plugin.CodeOf(err) != "KEY_SHARED" {
		t.Errorf("a set that another pair names: %v", err)
	}
}

// TestRotationBudget asks for the budget of the keys that traffic uses, not of those
// that wait for a proof.
func TestRotationBudget(t *testing.T) {
	r := standardRig()
	for i, set := range []string{"old", "new"} {
		r.Keys.Make(set)
		r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", set))
		if err := r.settle(); err != nil {
			t.Fatal(err)
		}
		k, _ := r.OVS.Tunnel("vx0")
		for range 100 {
			r.SendHost(k)
		}
		st, err := r.d.Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if p := st.Pairs[0]; p.Budget == nil || p.Budget.Used != float64(10000*(i+1))/(1<<45) {
			t.Errorf("%s: the budget is %+v after %d packets by the first set", set, p.Budget, 100*(i+1))
		}
	}
}
