// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the snapshots into testdata")

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// TestSnapshotOf turns the rows in testdata/snapshot into snapshots. A line of
// a file "rows" is a name, a type and options; "ids:" begins external_ids.
func TestSnapshotOf(t *testing.T) {
	files, err := filepath.Glob("testdata/snapshot/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := render(snapshotOf(hostRows(a.Comment), portsOf(parseRows(t, string(a.Files[0].Data)))))
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(f, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[1].Data), got); diff != "" {
				t.Errorf("snapshot (-want +got):\n%s", diff)
			}
		})
	}
}

// hostRows returns a row for a file whose comment has a line "other_config: k=v…".
func hostRows(comment []byte) []*hostRow {
	_, words, has := strings.Cut(string(comment), "other_config:")
	if !has {
		return nil
	}
	h := &hostRow{UUID: "u", OtherConfig: map[string]string{}}
	for _, w := range strings.Fields(words) {
		k, v, _ := strings.Cut(w, "=")
		h.OtherConfig[k] = v
	}
	return []*hostRow{h}
}

func parseRows(t *testing.T, text string) []*interfaceRow {
	var rows []*interfaceRow
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		if len(words) < 2 {
			t.Fatalf("line %q has no name and type", line)
		}
		r := &interfaceRow{UUID: fmt.Sprintf("%08d", i), Name: strings.Trim(words[0], `"`), Type: strings.Trim(words[1], `"`),
			Options: map[string]string{}, ExternalIDs: map[string]string{}}
		into := r.Options
		for _, w := range words[2:] {
			if w == "ids:" {
				into = r.ExternalIDs
				continue
			}
			k, v, _ := strings.Cut(w, "=")
			into[k] = v
		}
		rows = append(rows, r)
	}
	return rows
}

// render writes a snapshot's tunnels as text.
func render(s Snapshot) string {
	var b strings.Builder
	for _, t := range s.Tunnels {
		fmt.Fprintf(&b, "%s %s %s > %s udp %d", t.Name, t.Type, addr(t.Local), addr(t.Remote), t.DstPort)
		if t.ByFlow {
			b.WriteString(" by-flow")
		}
		if t.IPsec {
			fmt.Fprintf(&b, " ipsec mode=%s keys=%s dev=%s", t.Mode, t.Keys, t.Dev)
		}
		if a := t.Auth; a.Method != "" {
			fmt.Fprintf(&b, " auth=%s psk=%v file=%s cert=%s name=%s", a.Method, a.PSK, a.PSKFile, a.RemoteCert, a.RemoteName)
		}
		if t.IKE != (IKE{}) {
			fmt.Fprintf(&b, " ike=%+v", t.IKE)
		}
		if t.StockPeer {
			b.WriteString(" stock-peer")
		}
		for _, k := range slices.Sorted(maps.Keys(t.Reported)) {
			fmt.Fprintf(&b, " reported:%s=%s", k, t.Reported[k])
		}
		b.WriteString("\n")
		for _, p := range slices.Concat(t.Problems, t.Notes) {
			fmt.Fprintf(&b, "\t%s %s\n", p.Code, p.Text)
		}
	}
	return b.String()
}

func addr(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

func TestHostOf(t *testing.T) {
	for _, tc := range []struct {
		name string
		rows []*hostRow
		want Host
	}{
		{"no row", nil, Host{}},
		{"empty row", []*hostRow{{UUID: "u"}}, Host{UUID: "u"}},
		{"full row", []*hostRow{{
			UUID: "u", OVSVersion: new("3.1.0"),
			OtherConfig: map[string]string{"hw-offload": "false", "tc-policy": "none", "flow-limit": "0", "ipsec_skb_mark": "1/1"},
			ExternalIDs: map[string]string{"system-id": "s", "hostname": "h", "ipsec-offload:state": "ok", "ipsec-offload": "not ours",
				"ipsec-offload-hold": `{"flow-limit":"1000","fenced":{"7":"pf0"},"why":"x","since":"2026-03-01T12:00:00Z","boot":"b","new":1}`},
			CurCfg: 3, NextCfg: 4,
		}}, Host{UUID: "u", SystemID: "s", Hostname: "h", OVSVersion: "3.1.0", HWOffload: "false", FlowLimit: "0", SKBMark: "1/1", CurCfg: 3, NextCfg: 4,
			Hold:     &Hold{FlowLimit: "1000", Fenced: map[int]string{7: "pf0"}, Why: "x", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Boot: "b"},
			Notes:    []Problem{skbMark()},
			Reported: map[string]string{"state": "ok"}}},
		{"two rows, any order", []*hostRow{{UUID: "b"}, {UUID: "a"}}, Host{UUID: "a"}},
	} {
		if diff := cmp.Diff(tc.want, snapshotOf(tc.rows, nil).Host); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// TestSnapshotOfOrder: the order of rows decides nothing, and no row is changed.
func TestSnapshotOfOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rowGenerator(), 0, 8).Draw(t, "rows")
		for i, r := range rows {
			r.UUID = fmt.Sprint(i)
		}
		before := make([]*interfaceRow, len(rows))
		for i, r := range rows {
			before[i] = r.CloneModel().(*interfaceRow)
		}
		want := snapshotOf(nil, portsOf(rows))
		got := snapshotOf(nil, portsOf(rapid.Permutation(rows).Draw(t, "order")))
		if diff := cmp.Diff(want, got, cmpAddr); diff != "" || !want.equal(got) {
			t.Fatalf("another order gives another snapshot:\n%s", diff)
		}
		if diff := cmp.Diff(before, rows); diff != "" {
			t.Fatalf("rows were changed:\n%s", diff)
		}
		if !slices.IsSortedFunc(got.Tunnels, func(a, b Tunnel) int { return strings.Compare(a.Name, b.Name) }) {
			t.Fatal("tunnels are not sorted")
		}
	})
}

// TestSnapshotOfChanges: what was read before changes nothing in what is read next.
func TestSnapshotOfChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p parsed
		var rows []*interfaceRow
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			rows = slices.DeleteFunc(rows, func(*interfaceRow) bool { return rapid.Bool().Draw(t, "gone") })
			rows = append(rows, rapid.SliceOfN(rowGenerator(), 0, 3).Draw(t, "new")...)
			host := &hostRow{UUID: "u", OtherConfig: rapid.SampledFrom([]map[string]string{
				nil, {"certificate": "/c", "private_key": "/k", "ca_cert": "/ca"}}).Draw(t, "PKI")}
			want := snapshotOf([]*hostRow{host}, portsOf(rows))
			got := p.snapshot([]*hostRow{host}, portsOf(rows))
			if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		}
	})
}

func rowGenerator() *rapid.Generator[*interfaceRow] {
	return rapid.Custom(func(t *rapid.T) *interfaceRow {
		return &interfaceRow{
			Name: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "name"),
			Type: rapid.SampledFrom([]string{"", "vxlan", "geneve", "gre", "system"}).Draw(t, "type"),
			Options: rapid.MapOf(
				rapid.SampledFrom([]string{"remote_ip", "local_ip", "dst_port", "psk", "psk_file", "remote_name", "ipsec_dpddelay", "ipsec_keys", "ipsec_mode", "ipsec_x", "key"}),
				rapid.SampledFrom([]string{"", "flow", "10.0.0.1", "10.0.0.2", "fd00::1", "4789", "tunnel", "name"})).Draw(t, "options"),
			ExternalIDs: rapid.MapOf(rapid.SampledFrom([]string{"x", "ipsec-offload:state"}), rapid.String()).Draw(t, "ids"),
		}
	})
}

// TestEqual: every field of a snapshot counts, so that no change goes unnoticed,
// but for the counters, of which the watch takes care, and what is only shown.
func TestEqual(t *testing.T) {
	full := func() Snapshot {
		return Snapshot{
			Host:    Host{Hold: &Hold{}, Reported: map[string]string{"a": "b"}},
			Tunnels: []Tunnel{{Problems: []Problem{{"c", "t"}}, Reported: map[string]string{"a": "b"}}},
		}
	}
	change := func(t *testing.T, of func(*Snapshot) reflect.Value) {
		s := full()
		for i := range of(&s).NumField() {
			s := full()
			f := of(&s).Field(i)
			switch f.Interface().(type) {
			case netip.Addr:
				f.Set(reflect.ValueOf(netip.MustParseAddr("10.0.0.1")))
			case map[string]string:
				f.Set(reflect.ValueOf(map[string]string{"a": "c"}))
			case *Hold:
				f.SetZero()
			case *bool:
				f.Set(reflect.ValueOf(new(true)))
			case map[int]string:
				f.Set(reflect.ValueOf(map[int]string{1: "pf0"}))
			case time.Time:
				f.Set(reflect.ValueOf(time.Unix(1, 0)))
			case []Problem:
				f.Set(reflect.ValueOf([]Problem{{"c", "other"}}))
			case PKI:
				f.Set(reflect.ValueOf(PKI{CACert: "/ca"}))
			case Auth:
				f.Set(reflect.ValueOf(Auth{Method: MethodPSK}))
			case Secret:
				f.Set(reflect.ValueOf(NewSecret("s")))
			case IKE:
				f.Set(reflect.ValueOf(IKE{ReplayWindow: 32}))
			default:
				switch f.Kind() {
				case reflect.String:
					f.SetString("changed")
				case reflect.Bool:
					f.SetBool(true)
				case reflect.Uint16:
					f.SetUint(1)
				case reflect.Int, reflect.Int64:
					f.SetInt(1)
				default:
					t.Fatalf("this test has no other value for a %s", f.Type())
				}
			}
			name := of(&s).Type().Field(i).Name
			silent := strings.HasSuffix(name, "Cfg") || slices.Contains([]string{"SKBMark", "OFPort", "Fault"}, name)
			if s.equal(full()) != silent {
				t.Errorf("%s: equal is %v", name, !silent)
			}
		}
	}
	change(t, func(s *Snapshot) reflect.Value { return reflect.ValueOf(&s.Host).Elem() })
	change(t, func(s *Snapshot) reflect.Value { return reflect.ValueOf(s.Host.Hold).Elem() })
	change(t, func(s *Snapshot) reflect.Value { return reflect.ValueOf(&s.Tunnels[0]).Elem() })
	auth := reflect.TypeFor[Auth]()
	for i := range auth.NumField() {
		var a Auth
		switch f := reflect.ValueOf(&a).Elem().Field(i); f.Interface().(type) {
		case Secret:
			f.Set(reflect.ValueOf(NewSecret("s")))
		default:
			f.SetString("changed")
		}
		if a.Equal(Auth{}) {
			t.Errorf("Auth.%s: Equal is true", auth.Field(i).Name)
		}
	}
	if s := full(); s.equal(Snapshot{Host: s.Host, Tunnels: s.Tunnels, Systems: []string{"pf0"}}) {
		t.Error("Systems: equal is true")
	}
	if !full().equal(full()) {
		t.Error("equal snapshots differ")
	}
}

func TestTunnelOfShown(t *testing.T) {
	for _, tc := range []struct {
		given *int
		want  int
	}{{nil, 0}, {new(-1), 0}, {new(7), 7}} {
		if got := tunnelOf(&interfaceRow{Name: "vx", Type: "vxlan", OFPort: tc.given}, PKI{}); got.OFPort != tc.want || got.Fault != nil {
			t.Errorf("ofport %v: %+v", tc.given, got)
		}
	}
}

// TestClone: libovsdb writes to clones while others read the original.
func TestClone(t *testing.T) {
	r := &interfaceRow{UUID: "u", Name: "n", Type: "vxlan", Options: map[string]string{"psk": "p", "a": "b"}, ExternalIDs: map[string]string{"c": "d"}, OFPort: new(3), CFMFault: new(true)}
	c := r.CloneModel().(*interfaceRow)
	if diff := cmp.Diff(r, c); diff != "" {
		t.Fatalf("clone differs:\n%s", diff)
	}
	c.Options["a"], c.ExternalIDs["c"], *c.OFPort, *c.CFMFault = "x", "x", 4, false
	if r.Options["a"] != "b" || r.ExternalIDs["c"] != "d" || *r.OFPort != 3 || !*r.CFMFault {
		t.Error("a clone shares with its original")
	}
	if e := (&interfaceRow{}).CloneModel().(*interfaceRow); e.Options != nil || e.ExternalIDs != nil {
		t.Error("a clone of nil maps has maps")
	}
}
