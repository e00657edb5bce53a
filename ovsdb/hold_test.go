// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"
)

var since = time.Date(2026, 3, 1, 12, 0, 0, 123, time.FixedZone("", 3600))

// hold is a hold of two devices.
func hold() Hold {
	return Hold{Fenced: map[int]string{7: "pf0", 8: "rep0"}, Why: "retrofit", Since: since, Boot: "boot-1"}
}

// limit sets other_config:flow-limit as the operator does; "" removes it.
func (s *server) limit(value string) {
	s.tb.Helper()
	ms := []any{[]any{"other_config", "delete", []any{"set", []any{"flow-limit"}}}}
	if value != "" {
		ms = append(ms, []any{"other_config", "insert", mapOf(map[string]string{"flow-limit": value})})
	}
	s.transact(obj{"op": "mutate", "table": "Open_vSwitch", "where": all, "mutations": ms})
}

func (w *watched) hold(h Hold) int64 {
	w.tb.Helper()
	cfg, err := w.Hold(context.Background(), h)
	if err != nil {
		w.tb.Fatal(err)
	}
	return cfg
}

func (w *watched) unhold() int64 {
	w.tb.Helper()
	cfg, err := w.Unhold(context.Background())
	if err != nil {
		w.tb.Fatal(err)
	}
	return cfg
}

// Whatever flow-limit was is restored, and nothing else is touched.
func TestHold(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	others := s.column("Open_vSwitch", all, "external_ids")
	s.transact(obj{"op": "update", "table": "Open_vSwitch", "where": all, "row": obj{"other_config": mapOf(map[string]string{"hw-offload": "true"})}})
	for i, before := range []string{"", "200000", "0"} {
		s.limit(before)
		want := Host{FlowLimit: "0", Hold: &Hold{FlowLimit: before, Fenced: hold().Fenced, Why: "retrofit", Since: since.Truncate(time.Second), Boot: "boot-1"}}
		cfg := w.hold(hold())
		if n := s.number("next_cfg"); cfg != n || n != int64(2*i+1) {
			t.Errorf("flow-limit %q: waits for %d, next_cfg is %d", before, cfg, n)
		}
		w.until("the hold", func(s Snapshot, _ State) bool {
			return s.Host.FlowLimit == want.FlowLimit && s.Host.Hold.Equal(want.Hold) && s.Host.NextCfg == cfg
		})
		if again := w.hold(hold()); again != cfg {
			t.Errorf("the same hold was written again: waits for %d after %d", again, cfg)
		}
		if done := w.unhold(); done != cfg+1 {
			t.Errorf("the end waits for %d after %d", done, cfg)
		}
		snap, _ := w.until("the end of the hold", func(s Snapshot, _ State) bool { return s.Host.Hold == nil })
		if snap.Host.FlowLimit != before {
			t.Errorf("flow-limit %q was restored to %q", before, snap.Host.FlowLimit)
		}
		if again := w.unhold(); again != cfg+1 {
			t.Errorf("a second end waits for %d after %d", again, cfg+1)
		}
	}
	if diff := cmp.Diff(others, s.column("Open_vSwitch", all, "external_ids")); diff != "" {
		t.Errorf("external_ids (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"hw-offload": "true", "flow-limit": "0"}, s.column("Open_vSwitch", all, "other_config")); diff != "" {
		t.Errorf("other_config (-want +got):\n%s", diff)
	}
}

// Neither a report nor another process that took over loses what is to be restored.
func TestHoldOutlivesReportsAndProcess(t *testing.T) {
	s := startServer(t)
	s.limit("1000")
	w := follow(t, s.sock)
	w.tunnels()
	w.hold(hold())
	w.until("the hold", func(s Snapshot, _ State) bool { return s.Host.Hold != nil })
	w.report(Report{Values: map[string]string{"state": "x"}})
	w.reported("the report", func(s Snapshot) bool { return s.Host.Reported["state"] == "x" })
	w.report(Report{})

	next := follow(t, s.sock)
	next.until("the hold", func(s Snapshot, _ State) bool { return s.Host.Hold != nil })
	h := Hold{Fenced: map[int]string{9: "rep1"}, Why: "tables lost", Since: since.Add(time.Hour), Boot: "boot-1"}
	next.hold(h)
	want := &Hold{FlowLimit: "1000", Fenced: map[int]string{7: "pf0", 8: "rep0", 9: "rep1"}, Why: "tables lost", Since: since.Truncate(time.Second), Boot: "boot-1"}
	w.until("the joined hold", func(s Snapshot, _ State) bool { return s.Host.Hold.Equal(want) && s.Host.FlowLimit == "0" })
	s.taken()
	next.until("the counters", func(s Snapshot, _ State) bool { return s.Host.CurCfg == s.Host.NextCfg })
	next.unhold()
	w.until("the end of the hold", func(s Snapshot, _ State) bool { return s.Host.Hold == nil && s.Host.FlowLimit == "1000" })
}

// A record that somebody spoilt still ends, and nothing of it is believed.
func TestHoldBroken(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	for _, text := range []string{"", "{", `"0"`, `{"flow-limit":7,"boot":"b"}`, `{"since":"today"}`} {
		spoil := func() {
			s.transact(obj{"op": "mutate", "table": "Open_vSwitch", "where": all, "mutations": []any{
				[]any{"external_ids", "delete", []any{"set", []any{HoldKey}}},
				[]any{"external_ids", "insert", mapOf(map[string]string{HoldKey: text})}}})
		}
		s.limit("0")
		spoil()
		snap, _ := w.until("the broken record", func(s Snapshot, _ State) bool { return s.Host.Hold != nil && s.Host.FlowLimit == "0" })
		if h := *snap.Host.Hold; h.Broken == "" || h.FlowLimit != "" || h.Boot != "" {
			t.Errorf("%q: %+v", text, h)
		}
		w.unhold()
		w.until("its end", func(s Snapshot, _ State) bool { return s.Host.Hold == nil && s.Host.FlowLimit == "" })
		s.limit("0")
		spoil()
		w.hold(hold())
		w.until("a good record", func(s Snapshot, _ State) bool { return s.Host.Hold != nil && s.Host.Hold.Why == "retrofit" })
		w.unhold()
		w.until("its end", func(s Snapshot, _ State) bool { return s.Host.Hold == nil && s.Host.FlowLimit == "" })
	}
}

// Hold and Unhold against an operator and OVN who write to the same row: the
// last value of the operator is the one that stands in the end.
func TestHoldRace(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	for i := range 30 {
		value := fmt.Sprint(1000 + i)
		var g errgroup.Group
		g.Go(func() error {
			_, err := transact(s.sock, []any{obj{"op": "mutate", "table": "Open_vSwitch", "where": all, "mutations": []any{
				[]any{"other_config", "delete", []any{"set", []any{"flow-limit"}}},
				[]any{"other_config", "insert", mapOf(map[string]string{"flow-limit": value})}}}})
			return err
		})
		g.Go(func() error {
			for range 3 {
				_, err := transact(s.sock, []any{obj{"op": "mutate", "table": "Open_vSwitch", "where": all, "mutations": []any{
					[]any{"external_ids", "delete", []any{"set", []any{"ovn-x"}}},
					[]any{"external_ids", "insert", mapOf(map[string]string{"ovn-x": value})}}}})
				if err != nil {
					return err
				}
			}
			return nil
		})
		w.hold(hold())
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			w.hold(hold())
		}
		w.unhold()
		if got := s.column("Open_vSwitch", all, "other_config")["flow-limit"]; got != value {
			t.Fatalf("round %d: flow-limit is %q in the end, want %s", i, got, value)
		}
	}
}

func TestHoldWithoutHost(t *testing.T) {
	s := newServer(t)
	s.start()
	w := follow(t, s.sock)
	w.until("the empty database", func(_ Snapshot, st State) bool { return st.Connected })
	if _, err := w.Hold(context.Background(), hold()); err == nil || !strings.Contains(err.Error(), "hold offload: table Open_vSwitch is empty") {
		t.Errorf("hold: %v", err)
	}
	if _, err := w.Unhold(context.Background()); err == nil {
		t.Error("unhold: no error")
	}
}

// Any series of holds, ends and the operator's writes leaves what the operator
// wanted last.
func TestKnobs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SampledFrom([]string{"", "0", "1000", "200000"})
		wanted := values.Draw(t, "before")
		k, held := knobs{limit: wanted}, false
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(t *rapid.T) {
				h := Hold{Boot: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "boot"), Why: rapid.String().Draw(t, "why"), Since: time.Unix(rapid.Int64Range(0, 1e9).Draw(t, "since"), 0),
					Fenced: rapid.MapOf(rapid.IntRange(1, 9), rapid.String()).Draw(t, "fenced")}
				first := h.Since
				if held {
					first = parseHold(k.record).Since
				}
				next, err := k.hold(h)
				if err != nil {
					t.Fatal(err)
				}
				k, held = next, true
				got := parseHold(k.record)
				if k.limit != "0" || got.FlowLimit != wanted || !got.Since.Equal(first) || got.Broken != "" {
					t.Fatalf("wanted %q: %+v", wanted, k)
				}
				if again, err := k.hold(h); err != nil || again != k {
					t.Fatalf("not idempotent: %+v, then %+v, %v", k, again, err)
				}
			},
			"unhold": func(t *rapid.T) {
				k, held = k.unhold(), false
				if k != (knobs{limit: wanted}) {
					t.Fatalf("wanted %q: %+v", wanted, k)
				}
			},
			"operator": func(t *rapid.T) {
				v := values.Draw(t, "value")
				if held && v == "0" {
					return // cannot be told from ours
				}
				k.limit, wanted = v, v
			},
		})
	})
}

// A boot's devices are of no use in the next one: they begin with hw-tc-offload on.
func TestHoldOfAnotherBoot(t *testing.T) {
	old := hold()
	next := Hold{Boot: "boot-2", Fenced: map[int]string{9: "rep1"}}.Over(&old, "0")
	if !maps.Equal(next.Fenced, map[int]string{9: "rep1"}) {
		t.Errorf("fenced %v", next.Fenced)
	}
}

func FuzzParseHold(f *testing.F) {
	f.Add(`{"flow-limit":"1000","fenced":{"7":"pf0"},"why":"x","since":"2026-03-01T12:00:00Z","boot":"b"}`)
	f.Add(`{"fenced":{"x":"y"}}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		h := parseHold(text)
		if h.Broken != "" && !h.Equal(&Hold{Broken: h.Broken}) {
			t.Errorf("parts of a broken record: %+v", h)
		}
		k := knobs{limit: "0", record: text}.unhold()
		if k.record != "" || k.limit != h.FlowLimit && text != "" {
			t.Errorf("%+v of %+v", k, h)
		}
	})
}
