// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"testing"
	"time"

	"ovs-ipsec-offload/plugin/ike"
)

// What pluto 5.2 prints.
const (
	statesText = `#16: "oio-aaaa-out":500 ESTABLISHED_IKE_SA (established IKE SA); REKEY in 13827s; REPLACE in 14399s; newest; idle;
#17: "oio-aaaa-out":500 ESTABLISHED_CHILD_SA (established Child SA); LIVENESS in 9s; REKEY in 2881s; REPLACE in 3599s; newest; eroute owner; IKE SA #16; idle;
#17: "oio-aaaa-out" esp.c8a6ab19@10.0.0.2 esp.587f237b@10.0.0.1 Traffic: ESPin=0B ESPout=0B ESPmax=2^63B 
#21: "oio-bbbb-in":500 ESTABLISHED_CHILD_SA (established Child SA); REKEY in -5s; newest; eroute owner; IKE SA #16; idle;
#21: "oio-bbbb-in" used 3s ago; esp:a1b2c3d4@fd00::2 esp:1020304@fd00::1 Traffic: ESPin=0B ESPout=0B ESPmax=2^63B 
#18: "oio-aaaa-in":500 NEW_CHILD_I1 (sent CREATE_CHILD_SA request for new IPsec SA); eroute owner; lastlive=1s; idle;
#19: "other":500 ESTABLISHED_CHILD_SA (established Child SA); REKEY in 1s; newest; eroute owner; IKE SA #20; idle;
`
	trafficText = `#17: "oio-aaaa-out", type=ESP(nic-offload=packet), add_time=1795885006, inBytes=0, outBytes=0, maxBytes=2^63B, id='10.0.0.2'
`
)

func TestReadStates(t *testing.T) {
	got := readStates(statesText, trafficText)
	want := map[uint64]sa{
		16: {id: 16, conn: "oio-aaaa", child: ike.Out, ike: true, up: true, newest: true, rekeyIn: 13827 * time.Second},
		17: {id: 17, conn: "oio-aaaa", child: ike.Out, up: true, newest: true, rekeyIn: 2881 * time.Second,
			spiOut: 0xc8a6ab19, spiIn: 0x587f237b, installed: time.Unix(1795885006, 0)},
		18: {id: 18, conn: "oio-aaaa", child: ike.In},
		21: {id: 21, conn: "oio-bbbb", child: ike.In, up: true, newest: true, spiOut: 0xa1b2c3d4, spiIn: 0x1020304},
	}
	for id, w := range want {
		if g := got[id]; g == nil || *g != w {
			t.Errorf("state %d is %+v, want %+v", id, g, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d states, want %d: none of others", len(got), len(want))
	}
}

func TestReadStatus(t *testing.T) {
	const text = "pluto_version=5.2, pluto_vendorid=OE-Libreswan-5.2\n" +
		"\"oio-aaaa-in\": 10.0.0.1/32/UDP/4789===10.0.0.1...10.0.0.2===10.0.0.2/32/UDP; unrouted;\n\"other\": x\n"
	if v := readVersion(text); v != "5.2" || !offloads(v) || offloads("4.15") || offloads("") {
		t.Errorf("version %q", v)
	}
	if c := readConns(text); len(c) != 1 || !c["oio-aaaa-in"] {
		t.Errorf("connections %v", c)
	}
}

func TestReason(t *testing.T) {
	for text, code := range map[string]string{
		"\"x\" #2: IKE_AUTH response contained the error notification AUTHENTICATION_FAILED":               ike.CodeAuth,
		"ERROR: \"x\" #3: netlink response for Add SA esp.1@10.0.0.1: Invalid argument (errno 22)\nfailed": ike.CodeInstall,
		"\"x\" #1: IKE_SA_INIT_I: retransmission; will wait 0.5 seconds for response":                      ike.CodeNoAnswer,
		"\"x\" #1: sent IKE_SA_INIT request":                                                               "",
	} {
		got := ""
		if p := reason(text); p != nil {
			got = p.Code
		}
		if got != code {
			t.Errorf("%q means %q, want %q", text, got, code)
		}
	}
}

func FuzzReadStates(f *testing.F) {
	f.Add(statesText, trafficText)
	f.Add("#1: \"oio-a-out\":500 ESTABLISHED_CHILD_SA (x); REKEY in -5s;", "#1: add_time=99999999999999999999,")
	f.Fuzz(func(t *testing.T, states, traffic string) {
		for id, s := range readStates(states, traffic) {
			if id != s.id || s.conn == "" || s.child != ike.Out && s.child != ike.In || s.rekeyIn < 0 && s.rekeyIn > -time.Second {
				t.Errorf("state %d: %+v", id, s)
			}
		}
		_, _ = readVersion(states), readConns(states)
	})
}
