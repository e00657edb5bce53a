// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// scripted is a NIC that gives answers written down before.
type scripted struct {
	resetErr error
	answer   Answer
	fate     Fate
	status   []Status // one after the other; the last one stays
	counters []string
	did      []string
}

func (s *scripted) Reset(_ context.Context, params []Param) error {
	for _, p := range params {
		s.did = append(s.did, "param "+p.Name+"="+p.Value)
	}
	return s.resetErr
}

func (s *scripted) Apply(_ context.Context, c Command) (Answer, error) {
	s.did = append(s.did, c.String())
	return s.answer, nil
}

func (s *scripted) Send(_ context.Context, p Packet) (Fate, error) {
	s.did = append(s.did, "send "+p.String())
	return s.fate, nil
}

func (s *scripted) Status(context.Context) (Status, error) {
	if len(s.status) == 0 {
		return Status{}, nil
	}
	now := s.status[0]
	if len(s.status) > 1 {
		s.status = s.status[1:]
	}
	return now, nil
}

func (s *scripted) Counters(context.Context) ([]string, error) { return s.counters, nil }

const send = "send vf src 10.0.0.1 dst 10.0.0.2 udp sport 1 dport 2\n"

func values(kv ...string) Status {
	s := Status{Values: map[string]string{}}
	for i := 0; i < len(kv); i += 2 {
		s.Values[kv[i]] = kv[i+1]
	}
	return s
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, steps string
		nic         scripted
		want        string // "" for no error
	}{
		{"ok", "ok ip xfrm state flush", scripted{}, ""},
		{"refused but wanted", "ok ip xfrm state flush", scripted{answer: Answer{Errno: "EBUSY", Text: "no"}}, "line 2: ip xfrm state flush: want ok, have EBUSY (no)"},
		{"wanted but not refused", "EBUSY ip xfrm state flush", scripted{}, "want EBUSY, have ok"},
		{"other error", "EBUSY ip xfrm state flush", scripted{answer: Answer{Errno: "EINVAL"}}, "want EBUSY, have EINVAL"},
		{"text", "EBUSY ip xfrm state flush | too much", scripted{answer: Answer{Errno: "EBUSY", Text: "simnic: too much."}}, ""},
		{"other text", "EBUSY ip xfrm state flush | too much", scripted{answer: Answer{Errno: "EBUSY", Text: "x"}}, `want text "too much", have "x"`},
		{"in hw", "in_hw tc filter add dev rep0 ingress protocol ip pref 1 flower action drop", scripted{answer: Answer{InHW: true}}, ""},
		{"not in hw", "in_hw tc filter add dev rep0 ingress protocol ip pref 1 flower action drop", scripted{}, "not in hardware"},
		{"in hw against will", "not_in_hw tc filter add dev rep0 ingress protocol ip pref 1 flower action drop", scripted{answer: Answer{InHW: true}}, "in hardware"},
		{"state", "state a 1", scripted{status: []Status{values("a", "1")}}, ""},
		{"other state", "state a 1", scripted{status: []Status{values("a", "2")}}, "a: want 1, have 2"},
		{"no such state", "state b 1", scripted{status: []Status{values("a", "2")}}, "the NIC has no b"},
		{"counter", send + "counter a +2", scripted{status: []Status{values("a", "1"), values("a", "3")}}, ""},
		{"other counter", send + "counter a +2", scripted{status: []Status{values("a", "1"), values("a", "4")}}, "line 3: a: want +2, have +3"},
		{"counter back", send + "counter a +0", scripted{status: []Status{values("a", "4"), values("a", "1")}}, "went back from 4 to 1"},
		{"no such counter", send + "counter b +0", scripted{status: []Status{values("a", "4")}}, "counter b"},
		{"counter too early", "counter a +0", scripted{}, "before the first send"},
		{"out", send + "out esp 0x7, udp 9", scripted{fate: Fate{Out: []Frame{{Proto: "esp", SPI: 7}, {Proto: "udp", DPort: 9}}}}, ""},
		{"out none", send + "out none", scripted{}, ""},
		{"out too much", send + "out none", scripted{fate: Fate{Out: []Frame{{Proto: "other"}}}}, "went out: want none, have other"},
		{"in", send + "in vf", scripted{fate: Fate{In: VF}}, ""},
		{"in elsewhere", send + "in none", scripted{fate: Fate{In: PF}}, "came in at: want none, have pf"},
		{"stat", "stat x shown", scripted{counters: []string{"x"}}, ""},
		{"stat missing", "stat x shown", scripted{}, "x: want shown, have hidden"},
		{"log", "log made", scripted{status: []Status{{Log: []string{"a", "rx table made"}}}}, ""},
		{"log missing", "log made", scripted{status: []Status{{Log: []string{"a"}}}}, `no event "made"`},
		{"reset", "log made", scripted{resetErr: errors.New("no NIC")}, "reset: no NIC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Parse("rule x\n" + c.steps)
			if err != nil {
				t.Fatal(err)
			}
			err = Runner{NIC: &c.nic}.Run(t.Context(), r)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("have %v, want %s", err, c.want)
			}
		})
	}
}

func TestRunLooksAgain(t *testing.T) {
	nic := &scripted{status: []Status{values("a", "0"), values("a", "0"), values("a", "1")}}
	r, err := Parse("rule x\nparam p=q\nstate a 1\nstate a 2")
	if err != nil {
		t.Fatal(err)
	}
	var asked []int
	wait := func(_ context.Context, tries int) error {
		asked = append(asked, tries)
		if tries == 2 {
			return errors.New("enough")
		}
		return nil
	}
	err = Runner{nic, wait}.Run(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "line 4: a: want 2, have 1") {
		t.Errorf("have %v", err)
	}
	if want := []int{0, 1, 0, 1, 2}; !slices.Equal(asked, want) {
		t.Errorf("waited %v, want %v", asked, want)
	}
	if len(nic.did) != 1 || nic.did[0] != "param p=q" {
		t.Errorf("did %v", nic.did)
	}
}

func TestParseStatus(t *testing.T) {
	v := parseState("netdev pf0\nmode switchdev\ntx_esp 12\n\nbroken\n")
	if v["netdev"] != "pf0" || v["tx_esp"] != "12" || len(v) != 3 {
		t.Errorf("have %v", v)
	}
	log := parseLog("1 12.000000001 rx table made\n2 13.5 refused state add EBUSY: flows are offloaded\nx\n")
	if len(log) != 2 || log[1] != "refused state add EBUSY: flows are offloaded" {
		t.Errorf("have %q", log)
	}
}
