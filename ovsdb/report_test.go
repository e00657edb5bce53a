// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

func (w *watched) report(rs ...Report) {
	w.tb.Helper()
	if err := w.Report(context.Background(), rs); err != nil {
		w.tb.Fatal(err)
	}
}

// reported waits until the rows say what was reported, of which nobody is told.
func (w *watched) reported(what string, ok func(Snapshot) bool) {
	w.tb.Helper()
	poll(w.tb, what, func() bool { s, _ := w.Current(); return ok(s) })
}

func TestReport(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2", "ipsec_keys", "a"), vxlan("vx2", "10.0.0.3", "ipsec_keys", "b"))
	s.transact(obj{"op": "update", "table": "Interface", "where": named("vx1"), "row": obj{
		"external_ids": mapOf(map[string]string{"iface-id": "x", "ipsec-offload": "not ours", "ipsec-offload:old": "1"})}})
	w := follow(t, s.sock)
	w.tunnel("vx1", "the old report", func(t *Tunnel) bool { return t.Reported["old"] == "1" })
	options := s.column("Interface", named("vx1"), "options")

	w.report(
		Report{Tunnel: "vx1", Values: map[string]string{"state": "blocked", "reason": `no "keys"; see → log`}},
		Report{Tunnel: "vx2", Values: map[string]string{"state": "encrypted"}},
		Report{Values: map[string]string{"state": "degraded"}})
	w.reported("the reports", func(s Snapshot) bool {
		return cmp.Equal(s.tunnel("vx1").Reported, map[string]string{"state": "blocked", "reason": `no "keys"; see → log`}) &&
			cmp.Equal(s.tunnel("vx2").Reported, map[string]string{"state": "encrypted"}) &&
			cmp.Equal(s.Host.Reported, map[string]string{"state": "degraded"})
	})
	want := map[string]string{"iface-id": "x", "ipsec-offload": "not ours", "ipsec-offload:state": "blocked", "ipsec-offload:reason": `no "keys"; see → log`}
	if diff := cmp.Diff(want, s.column("Interface", named("vx1"), "external_ids")); diff != "" {
		t.Errorf("external_ids of vx1 (-want +got):\n%s", diff)
	}

	// Values are replaced, and what is not reported any more goes.
	w.report(Report{Tunnel: "vx1", Values: map[string]string{"state": "encrypted"}}, Report{Tunnel: "vx2"}, Report{})
	w.reported("the new reports", func(s Snapshot) bool {
		return cmp.Equal(s.tunnel("vx1").Reported, map[string]string{"state": "encrypted"}) &&
			s.tunnel("vx2").Reported == nil && s.Host.Reported == nil
	})
	if diff := cmp.Diff(options, s.column("Interface", named("vx1"), "options")); diff != "" {
		t.Errorf("options were written:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"system-id": "hv1", "hostname": "hv1.example"}, s.column("Open_vSwitch", all, "external_ids")); diff != "" {
		t.Errorf("external_ids of the host (-want +got):\n%s", diff)
	}
}

// TestReportIsNoNews: what others do to a report wakes the reader, what was reported does not.
func TestReportIsNoNews(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	w := follow(t, s.sock)
	w.tunnels("vx1")
	w.forget()
	// read waits until both rows were read with that state.
	read := func(state string) {
		poll(t, "the rows to be read", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			const key = ReportPrefix + "state"
			return w.ports[0].ExternalIDs[key] == state && w.host.ExternalIDs[key] == state
		})
	}
	for i := range 3 {
		x := strings.Repeat("x", i+1)
		w.report(Report{Tunnel: "vx1", Values: map[string]string{"state": x, "nul": x + "\x00"}}, Report{Values: map[string]string{"state": x}})
		read(x)
		w.report(Report{Tunnel: "vx1"}, Report{})
		read("")
	}
	if len(w.Changed()) > 0 {
		t.Error("the watch spoke up")
	}
	w.report(Report{Tunnel: "vx1", Values: map[string]string{"state": "x"}})
	for _, changed := range []string{"y", ""} {
		s.transact(obj{"op": "update", "table": "Interface", "where": named("vx1"), "row": obj{"external_ids": mapOf(map[string]string{"ipsec-offload:state": changed})}})
		w.tunnel("vx1", "a stranger's change", func(t *Tunnel) bool { return t.Reported != nil && t.Reported["state"] == changed })
	}
	s.transact(obj{"op": "update", "table": "Interface", "where": named("vx1"), "row": obj{"external_ids": mapOf(nil)}})
	w.tunnel("vx1", "the loss of the report", func(t *Tunnel) bool { return t.Reported == nil })
}

// TestReportIsCurrent: who looks after a report finds it, long before the rows are read anew.
func TestReportIsCurrent(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"), vxlan("vx2", "10.0.0.3"))
	w := follow(t, s.sock, func(c *Config) { c.Settle = limit })
	before := w.tunnels("vx1", "vx2")
	w.report(Report{Tunnel: "vx2", Values: map[string]string{"state": "x\x00"}}, Report{Values: map[string]string{"state": "y"}}, Report{Tunnel: "never-was"})
	now, _ := w.Current()
	if got := now.tunnel("vx2").Reported["state"]; got != "x\uFFFD" || now.Host.Reported["state"] != "y" || now.tunnel("vx1").Reported != nil {
		t.Errorf("reported: %+v, %+v", now.Tunnels, now.Host)
	}
	if before.tunnel("vx2").Reported != nil {
		t.Error("a snapshot that was handed out was written to")
	}
}

// TestReportOfAnOlderRow: what was read while a report was on its way stands, and the
// report is news when it comes. A row that was read before is not older than the report.
func TestReportOfAnOlderRow(t *testing.T) {
	was, is, same := &interfaceRow{Name: "vx1", Type: "vxlan"}, &interfaceRow{Name: "vx1", Type: "vxlan"}, &interfaceRow{Name: "vx2", Type: "vxlan"}
	w := &Watch{host: &hostRow{}, ports: []*interfaceRow{is, same}, snapshot: snapshotOf(nil, []*interfaceRow{is, same}),
		state: State{Connected: true}, changed: make(chan struct{}, 1)}
	values := map[string]string{"state": "x"}
	w.keep(turn{host: &hostRow{}, ports: []*interfaceRow{was, same}}, []Report{{Tunnel: "vx1", Values: values}, {Tunnel: "vx2", Values: values}, {Values: values}})
	for range 2 {
		if s := w.snapshot; s.Tunnels[0].Reported != nil || s.Tunnels[1].Reported == nil || s.Host.Reported != nil {
			t.Errorf("%+v", s)
		}
		w.learn(nil, snapshotOf(nil, w.ports), w.host, w.ports) // as it stood before the report
	}
	if len(w.changed) > 0 {
		t.Error("that is told as news")
	}
	first := &interfaceRow{Name: "vx0", Type: "vxlan"}
	w.learn(nil, snapshotOf(nil, []*interfaceRow{first, same}), w.host, []*interfaceRow{first, same})
	if s := w.snapshot; s.Tunnels[0].Reported != nil || s.Tunnels[1].Reported == nil {
		t.Errorf("with another row in front: %+v", s)
	}
}

// TestReportOddValues: the server drops a connection over a NUL in a string.
func TestReportOddValues(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	w := follow(t, s.sock)
	w.tunnels("vx1")
	w.report(Report{Tunnel: "vx1", Values: map[string]string{"a": "x\x00y", "b": "x\xffy", "c": "", "d": "\n\t\u2028\U0001F510", "e\x00": strings.Repeat("z", maxValue+1)}})
	w.reported("the report", func(s Snapshot) bool {
		return maps.Equal(s.tunnel("vx1").Reported, map[string]string{"a": "x\uFFFDy", "b": "x\uFFFDy", "c": "", "d": "\n\t\u2028\U0001F510", "e\uFFFD": strings.Repeat("z", maxValue) + "…"})
	})
}

// TestReportGoneRow: the watch waits for the dust to settle and does not know
// yet that one row went away and another was replaced.
func TestReportGoneRow(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"), vxlan("vx2", "10.0.0.3"), vxlan("vx3", "10.0.0.4"))
	w := follow(t, s.sock, func(c *Config) { c.Settle = limit })
	w.tunnels("vx1", "vx2", "vx3")
	s.transact(
		obj{"op": "insert", "table": "Interface", "uuid-name": "i", "row": obj{"name": "vx2", "type": "vxlan"}},
		obj{"op": "update", "table": "Port", "where": named("vx2"), "row": obj{"interfaces": []any{"named-uuid", "i"}}},
		obj{"op": "mutate", "table": "Bridge", "where": all, "mutations": []any{[]any{"ports", "delete", s.uuid("Port", named("vx1"))}}})
	state := map[string]string{"state": "x"}
	w.report(Report{Tunnel: "vx1", Values: state}, Report{Tunnel: "vx2", Values: state}, Report{Tunnel: "vx3", Values: state}, Report{Tunnel: "never-was", Values: state})
	for name, want := range map[string]map[string]string{"vx1": {}, "vx2": {}, "vx3": {"ipsec-offload:state": "x"}} {
		if got := s.column("Interface", named(name), "external_ids"); !maps.Equal(got, want) {
			t.Errorf("external_ids of %s: %v, want %v", name, got, want)
		}
	}
}

// TestReportReplacedRow: a row that OVN replaces loses its report and gets it back.
func TestReportReplacedRow(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	w := follow(t, s.sock)
	w.tunnels("vx1")
	for range 3 {
		w.report(Report{Tunnel: "vx1", Values: map[string]string{"state": "x"}})
		w.reported("the report", func(s Snapshot) bool { return s.tunnel("vx1").Reported["state"] == "x" })
		s.transact(replacement([]port{vxlan("vx1", "10.0.0.2")})...)
		w.tunnel("vx1", "the new row", func(t *Tunnel) bool { return t.Reported == nil })
	}
}

func TestReportThousands(t *testing.T) {
	const n = 3000
	s := startServer(t)
	ports := tunnels(n)
	s.add(ports...)
	w := follow(t, s.sock)
	snap, _ := w.until("all tunnels", func(s Snapshot, _ State) bool { return len(s.Tunnels) == n })
	var rs []Report
	for _, tn := range snap.Tunnels {
		rs = append(rs, Report{Tunnel: tn.Name, Values: map[string]string{"state": "encrypted", "boot": "0a1b2c3d-0000-1111-2222-333344445555"}})
	}
	w.forget()
	w.report(rs...)
	poll(t, "all reports to be read", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !slices.ContainsFunc(w.ports, func(r *interfaceRow) bool { return r.ExternalIDs[ReportPrefix+"state"] != "encrypted" })
	})
	now, _ := w.Current()
	if slices.ContainsFunc(now.Tunnels, func(t Tunnel) bool { return t.Reported["state"] != "encrypted" }) {
		t.Error("a report is missing")
	}
	if len(w.Changed()) > 0 {
		t.Error("reports of many transactions are told as news")
	}
}

func TestReportNotConnected(t *testing.T) {
	s := newServer(t)
	w := follow(t, s.sock)
	w.until("the first attempt", func(_ Snapshot, st State) bool { return errors.Is(st.Err, syscall.ENOENT) })
	err := w.Report(context.Background(), []Report{{Tunnel: "vx1"}})
	if !errors.Is(err, ErrNotConnected) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("report without a connection: %v", err)
	}
	if _, err := w.SetHWOffload(context.Background(), "true"); !errors.Is(err, ErrNotConnected) {
		t.Errorf("set hw-offload without a connection: %v", err)
	}
}

// TestReportHungServer: with a stopped server a report of any size has to fail
// in time, and the watch has to end (goleak looks).
func TestReportHungServer(t *testing.T) {
	s := startServer(t)
	s.add(tunnels(2000)...)
	w := follow(t, s.sock, func(c *Config) { c.Probe, c.Timeout = time.Hour, 2*time.Second })
	snap, _ := w.until("all tunnels", func(s Snapshot, _ State) bool { return len(s.Tunnels) == 2000 })
	var rs []Report
	for _, tn := range snap.Tunnels {
		rs = append(rs, Report{Tunnel: tn.Name, Values: map[string]string{"reason": strings.Repeat("why ", 100)}})
	}
	s.signal(syscall.SIGSTOP)
	t.Cleanup(func() { s.signal(syscall.SIGCONT) })
	if err := w.Report(context.Background(), rs); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("report to a stopped server: %v", err)
	}
	if now, _ := w.Current(); now.Tunnels[0].Reported != nil {
		t.Error("what could not be reported is taken to stand")
	}
	w.until("the hang to be noticed", func(_ Snapshot, st State) bool { return !st.Connected })
}

func TestReportCancelled(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	w := follow(t, s.sock)
	w.tunnels("vx1")
	s.signal(syscall.SIGSTOP)
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	for range 3 {
		g.Go(func() error {
			err := w.Report(ctx, []Report{{Tunnel: "vx1", Values: map[string]string{"a": "b"}}})
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("cancelled report: %w", err)
			}
			return nil
		})
	}
	poll(t, "a report to be under way", func() bool { return len(w.writer) == 1 })
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	s.signal(syscall.SIGCONT)
	w.report(Report{Tunnel: "vx1", Values: map[string]string{"c": "d"}})
	if _, st := w.Current(); !st.Connected {
		t.Errorf("a caller's end cost the connection: %v", st.Err)
	}
}

// TestSplit: transactions are small, complete and in order.
func TestSplit(t *testing.T) {
	snap := Snapshot{}
	var ports []*interfaceRow
	var rs []Report
	for i := range 500 {
		name := fmt.Sprintf("vx%03d", i)
		snap.Tunnels = append(snap.Tunnels, Tunnel{Name: name})
		ports = append(ports, &interfaceRow{Name: name, UUID: fmt.Sprintf("%08x-0000-0000-0000-000000000000", i)})
		rs = append(rs, Report{Tunnel: name, Values: map[string]string{"reason": strings.Repeat("x", i)}})
	}
	ops := reportOperations(snap, ports, rs)
	next := 0
	for _, part := range split(ops, 4096) {
		b, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 || len(part) > 1 && len(b) > 4096+len(part) {
			t.Errorf("a transaction of %d operations and %d bytes", len(part), len(b))
		}
		for _, op := range part {
			if !cmp.Equal(op.Where, ops[next].Where) {
				t.Fatalf("operation %d is not in its place", next)
			}
			next++
		}
	}
	if next != len(ops) || next != 500 {
		t.Errorf("%d of %d operations are left", next, len(ops))
	}
	if got := split(nil, 1); got != nil {
		t.Errorf("no operations make %v", got)
	}
}

func TestSetHWOffload(t *testing.T) {
	ctx := context.Background()
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	s.transact(obj{"op": "update", "table": "Open_vSwitch", "where": all, "row": obj{"other_config": mapOf(map[string]string{"tc-policy": "none"})}})
	for range 2 { // once set, to set it again is no error
		before := s.number("next_cfg")
		cfg, err := w.SetHWOffload(ctx, "true")
		if err != nil || cfg != before+1 || s.number("next_cfg") != cfg {
			t.Fatalf("waits for %d after %d, %v", cfg, before, err)
		}
		want := map[string]string{"tc-policy": "none", "hw-offload": "true"}
		if diff := cmp.Diff(want, s.column("Open_vSwitch", all, "other_config")); diff != "" {
			t.Fatalf("other_config (-want +got):\n%s", diff)
		}
	}
	w.until("our own change", func(s Snapshot, _ State) bool { return s.Host.HWOffload == "true" })
}

// setAsOperator does what `ovs-vsctl set Open_vSwitch . other_config:hw-offload=V` does.
func (s *server) setAsOperator(value string) error {
	_, err := transact(s.sock, []any{obj{"op": "mutate", "table": "Open_vSwitch", "where": all, "mutations": []any{
		[]any{"other_config", "delete", []any{"set", []any{"hw-offload"}}},
		[]any{"other_config", "insert", mapOf(map[string]string{"hw-offload": value})}}}})
	return err
}

// TestHWOffloadRace: whatever the order, the operator's value stands in the end,
// and we never believe that ours does when theirs came first.
func TestHWOffloadRace(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock, func(c *Config) { c.Settle = time.Hour }) // never learns of the operator's change
	w.tunnels()
	lost := 0
	for round := 0; round < 200 && (round < 20 || lost == 0); round++ {
		s.transact(obj{"op": "update", "table": "Open_vSwitch", "where": all, "row": obj{"other_config": mapOf(nil)}})
		var g errgroup.Group
		g.Go(func() error { return s.setAsOperator("false") })
		_, ours := w.SetHWOffload(context.Background(), "true")
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		var theirs *HWOffloadError
		switch {
		case errors.As(ours, &theirs) && theirs.Value == "false":
			lost++
		case ours != nil:
			t.Fatalf("unexpected error: %v", ours)
		}
		if got := s.column("Open_vSwitch", all, "other_config")["hw-offload"]; got != "false" {
			t.Fatalf("hw-offload=%q after the operator set false", got)
		}
	}
	if err := s.setAsOperator("false"); err != nil {
		t.Fatal(err)
	}
	var theirs *HWOffloadError
	if _, err := w.SetHWOffload(context.Background(), "true"); !errors.As(err, &theirs) || theirs.Value != "false" {
		t.Errorf("set over the operator's value: %v", err)
	}
	if got := s.column("Open_vSwitch", all, "other_config")["hw-offload"]; got != "false" {
		t.Errorf("hw-offload=%q: the operator's value was overwritten", got)
	}
}
