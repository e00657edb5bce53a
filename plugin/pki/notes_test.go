// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
)

func TestExpires(t *testing.T) {
	life := func(d time.Duration) Cert { return Cert{NotBefore: testTime.Add(-d), NotAfter: testTime} }
	year, week := life(365*daily), life(7*daily)
	for _, tc := range []struct {
		cert Cert
		left time.Duration
		want string // of the text; "" for no note
	}{
		{year, 31 * daily, ""},
		{year, 30*daily - time.Second, "30 days"},
		{year, 8 * daily, "30 days"},
		{year, 7*daily - time.Second, "7 days"},
		{year, daily - time.Second, "1 day"},
		{year, 0, "1 day"},
		{year, -time.Second, ""},
		{week, 6 * daily, ""},
		{week, 2 * daily, "1/3 of its life"},
		{week, 12 * time.Hour, "1/10 of its life"},
		{week, time.Hour, "1/30 of its life"},
	} {
		p := Expires(certRef, tc.cert, testTime.Add(-tc.left))
		if (p == nil) != (tc.want == "") || p != nil && (p.Code != CodeExpires || !strings.Contains(p.Text, "less than "+tc.want+":")) {
			t.Errorf("%s left: %v, want %q", tc.left, p, tc.want)
		}
	}
	// A text that changed with every look would be told with every look.
	if a, b := Expires(certRef, year, testTime.Add(-3*daily)), Expires(certRef, year, testTime.Add(-2*daily)); *a != *b {
		t.Errorf("%v and %v within one stage", a, b)
	}
}

func TestNotes(t *testing.T) {
	ca, other := issue(t, spec{cn: "CA", ca: true}), issue(t, spec{cn: "other", ca: true})
	between := issue(t, spec{cn: "between", ca: true, by: ca})
	soon := testTime.Add(time.Hour)
	dying := issue(t, spec{cn: "dying", ca: true, from: testTime.AddDate(-1, 0, 0), to: soon})
	signed, deep := issue(t, spec{cn: "hv1", by: ca}), issue(t, spec{cn: "hv1", by: between})
	for _, tc := range []struct {
		name  string
		texts map[Ref][]byte
		want  []string
	}{
		{"nothing", nil, nil},
		{"signed", map[Ref][]byte{certRef: signed.cert, caRef: ca.cert}, nil},
		{"signed by one of two", map[Ref][]byte{certRef: signed.cert, caRef: slices.Concat(other.cert, ca.cert)}, nil},
		{"signed by way of another", map[Ref][]byte{certRef: slices.Concat(deep.cert, between.cert), caRef: ca.cert}, nil},
		{"the one between is missing", map[Ref][]byte{certRef: deep.cert, caRef: ca.cert}, []string{CodeUnsigned}},
		{"signed by another", map[Ref][]byte{certRef: signed.cert, caRef: other.cert}, []string{CodeUnsigned}},
		{"no subjectAltName", map[Ref][]byte{certRef: issue(t, spec{cn: "hv1", noSAN: true}).cert}, []string{CodeName}},
		{"expires", map[Ref][]byte{remoteRef: dying.cert}, []string{CodeExpires}},
		{"the last CA expires", map[Ref][]byte{caRef: dying.cert}, []string{CodeExpires}},
		{"one CA expires", map[Ref][]byte{caRef: slices.Concat(dying.cert, other.cert)}, nil},
		{"not readable", map[Ref][]byte{certRef: []byte("x"), caRef: []byte("x")}, nil},
	} {
		var got []string
		for _, n := range slices.Concat(PortNotes(selfSigned, files(tc.texts), testTime), HostNotes(host, files(tc.texts), testTime)) {
			got = append(got, n.Code)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestNotesOfPSK(t *testing.T) {
	if n := PortNotes(ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret("swordfish")}, nil, testTime); len(n) != 1 || n[0].Code != CodePSKInOVSDB {
		t.Errorf("in the database: %v", n)
	}
	if n := PortNotes(byPSKFile, nil, testTime); len(n) > 0 {
		t.Errorf("in a file: %v", n)
	}
}

// TestMemory: a tunnel keeps what it had while files are being exchanged, but not
// when its own options change.
func TestMemory(t *testing.T) {
	var m Memory
	bad := problem(CodeKeyMismatch, "x")
	first, second := ike.Auth{LocalID: "1"}, ike.Auth{LocalID: "2"}
	settle := func(auth ovsdb.Auth, got ike.Auth, p *Problem, wantUse ike.Auth, wantNote, wantStill string) {
		t.Helper()
		use, note, still := m.Settle("vx1", auth, got, p)
		if !use.Equal(wantUse) || code(note) != wantNote || code(still) != wantStill {
			t.Errorf("%v, %v, %v; want %v, %q, %q", use, note, still, wantUse, wantNote, wantStill)
		}
	}
	settle(byCA, ike.Auth{}, bad, ike.Auth{}, "", CodeKeyMismatch) // nothing to go back to
	settle(byCA, first, nil, first, "", "")
	settle(byCA, ike.Auth{}, bad, first, CodeStale, "")
	settle(byCA, second, nil, second, "", "")
	settle(byCA, ike.Auth{}, bad, second, CodeStale, "")
	settle(byPSKFile, ike.Auth{}, bad, ike.Auth{}, "", CodeKeyMismatch)
	settle(byCA, ike.Auth{}, bad, ike.Auth{}, "", CodeKeyMismatch) // forgotten meanwhile
	settle(byCA, first, nil, first, "", "")
	m.Keep(map[string]bool{"vx1": true})
	settle(byCA, ike.Auth{}, bad, first, CodeStale, "")
	m.Keep(nil)
	settle(byCA, ike.Auth{}, bad, ike.Auth{}, "", CodeKeyMismatch)
}
