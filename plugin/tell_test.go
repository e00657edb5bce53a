// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/ovsdb"
)

// portLines returns what was logged about ports since the last call, without times.
func portLines(log *bytes.Buffer) (lines []string) {
	for line := range strings.Lines(log.String()) {
		if _, rest, is := strings.Cut(strings.TrimSpace(line), "level="); is && regexp.MustCompile(`port(=|s=)`).MatchString(rest) {
			lines = append(lines, rest)
		}
	}
	log.Reset()
	return lines
}

func TestLogOfPorts(t *testing.T) {
	var log bytes.Buffer
	r := standardRig()
	r.cfg.Log = textLog(&log)
	r.restart()
	say := func(what string, want ...string) {
		t.Helper()
		if err := r.calmDown(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, portLines(&log)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
	say("a port that is encrypted at once")
	r.OVS.SetPort(secure("vx1", "10.0.0.1", "10.0.0.3", "cd"))
	say("blocked", `WARN msg="port is blocked" port=vx1 code=KEY_MISSING reason="there is no key set cd on this host"`)
	say("no change")
	r.OVS.SetPort(secure("vx1", "10.0.0.1", "10.0.0.3", "ab"))
	lines := `WARN msg="port is blocked" port=vx1 code=KEY_SHARED`
	if err := r.calmDown(); err != nil {
		t.Fatal(err)
	}
	if got := portLines(&log); len(got) != 1 || !strings.HasPrefix(got[0], lines) {
		t.Errorf("another reason: %q", got)
	}
	r.Keys.Make("cd")
	r.OVS.SetPort(secure("vx1", "10.0.0.1", "10.0.0.3", "cd"))
	say("over", `INFO msg="port is encrypted" port=vx1`)
	r.OVS.SetPort(secure("vx2", "10.0.0.1", "10.0.0.4", "none"))
	say("blocked", `WARN msg="port is blocked" port=vx2 code=KEY_MISSING reason="there is no key set none on this host"`)
	r.OVS.DelPort("vx2")
	say("deleted", `INFO msg="port is gone" port=vx2`)
	r.OVS.DelPort("vx1")
	say("one without trouble is deleted")
	r.OVS.SetPort(plain("vx0", "10.0.0.1", "10.0.0.2"))
	say("it loses its only ipsec option", `WARN msg="port has no ipsec option any more and asks for clear text" port=vx0 state=clear`)
	say("said once")
}

func TestLogOfManyPorts(t *testing.T) {
	var log bytes.Buffer
	r := standardRig()
	r.cfg.Log = textLog(&log)
	r.restart()
	peer := netip.MustParseAddr("10.0.1.0")
	for i := range 1000 {
		peer = peer.Next()
		r.OVS.SetPort(secure(fmt.Sprintf("vx%d", i), "10.0.0.1", peer.String(), "none"))
	}
	if err := r.calmDown(); err != nil {
		t.Fatal(err)
	}
	lines := portLines(&log)
	if len(lines) != 21 || !strings.Contains(lines[20], "ports=980") {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestLogOfTheFirstConnection(t *testing.T) {
	var log bytes.Buffer
	r := standardRig()
	r.cfg.Log = textLog(&log)
	r.restart()
	r.OVS.SetState(ovsdb.State{Err: fmt.Errorf("connect db.sock: %w", ovsdb.ErrNotTried)})
	r.round()
	if log.Len() > 0 {
		t.Errorf("a warning before the first try: %s", &log)
	}
	r.OVS.SetState(ovsdb.State{Err: errors.New("connect db.sock: no such file")})
	r.round()
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "no such file") {
		t.Errorf("no warning of a connection that failed: %s", &log)
	}
}
