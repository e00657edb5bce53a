// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"ovs-ipsec-offload/plugin"
)

func TestNamingArgs(t *testing.T) {
	got := strings.Join(namingArgs("unix:/run/db.sock", []string{"vx0", "vx1"}, "new"), " ")
	want := "ovs-vsctl --no-wait --db=unix:/run/db.sock set interface vx0 options:ipsec_keys=new -- set interface vx1 options:ipsec_keys=new"
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestRotationOf(t *testing.T) {
	at := func(stage string) plugin.PairStatus {
		p := plugin.PairStatus{State: plugin.StateEncrypted, Keys: "new", Ports: []string{"vx0"}}
		if stage != "" {
			p.Rotation = &plugin.RotationStatus{Stage: stage, Keys: "new"}
		}
		return p
	}
	old, spent, blocked := at(""), at(plugin.StageReceive), at("")
	old.Keys = "old"
	spent.Problem = &plugin.Problem{Code: "KEY_USED", Text: "spent"}
	blocked.State = plugin.StateBlocked
	tests := []struct {
		name           string
		pair           plugin.PairStatus
		turned, waits  bool
		fails, hasLine bool
	}{
		{"not seen", old, false, false, false, false},
		{"receive", at(plugin.StageReceive), false, false, false, true},
		{"prove", at(plugin.StageProve), false, true, false, true},
		{"drain", at(plugin.StageDrain), true, false, false, true},
		{"done", at(""), true, false, false, true},
		{"spent", spent, false, false, true, true},
		{"blocked", blocked, false, false, false, false},
	}
	for _, test := range tests {
		r := rotationOf(plugin.Status{Pairs: []plugin.PairStatus{test.pair}}, "vx0", "new")
		if r.turned != test.turned || r.waits != test.waits || (r.err != nil) != test.fails || (r.line != "") != test.hasLine {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
	if r := rotationOf(plugin.Status{}, "vx0", "new"); r.turned || r.waits || r.err != nil {
		t.Errorf("no pair: %+v", r)
	}
}
