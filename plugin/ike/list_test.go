// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// listed is what strongSwan 6.0.1 says of an IKE SA.
var listed = vici.Message{vici.Section("oio-1",
	vici.Text("uniqueid", "3"), vici.Text("version", "2"), vici.Text("state", "ESTABLISHED"),
	vici.Text("local-host", "10.0.0.1"), vici.Text("initiator", "yes"),
	vici.Text("initiator-spi", "aabbccddeeff0011"), vici.Text("responder-spi", "2233445566778899"),
	vici.Text("established", "12"), vici.Text("rekey-time", "13000"),
	vici.List("tasks-queued", "CHILD_CREATE"), vici.List("tasks-active", "IKE_DPD"),
	vici.Section("child-sas",
		vici.Section("oio-1-in-8", vici.Text("name", "oio-1-in"), vici.Text("uniqueid", "8"), vici.Text("reqid", "18"),
			vici.Text("state", "INSTALLED"), vici.Text("spi-in", "c0ffee01"), vici.Text("spi-out", "c0ffee02"), vici.Text("install-time", "11")),
		vici.Section("oio-1-out-7", vici.Text("name", "oio-1-out"), vici.Text("uniqueid", "7"), vici.Text("reqid", "17"),
			vici.Text("state", "REKEYING"), vici.Text("spi-in", "00000103"), vici.Text("spi-out", "f0000004"),
			vici.Text("esn", "1"), vici.Text("rekey-time", "3300"), vici.Text("install-time", "12"))))}

func TestReadSAs(t *testing.T) {
	want := []sa{{
		Conn: "oio-1", ID: 3, SPI: "aabbccddeeff00112233445566778899", State: "ESTABLISHED", Initiator: true,
		Established: 12 * time.Second, Tasks: []string{"CHILD_CREATE", "IKE_DPD"},
		Children: []childSA{
			{Name: Out, ID: 7, State: "REKEYING", SPIIn: 0x103, SPIOut: 0xf0000004, ESN: true, Installed: 12 * time.Second, RekeyIn: 3300 * time.Second},
			{Name: In, ID: 8, State: "INSTALLED", SPIIn: 0xc0ffee01, SPIOut: 0xc0ffee02, Installed: 11 * time.Second},
		},
	}}
	if diff := cmp.Diff(want, readSAs(listed)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !want[0].busy() || !want[0].complete(Conn{}) || !want[0].live() || want[0].coming() {
		t.Error("the IKE SA is taken for something else")
	}
}

func TestVersions(t *testing.T) {
	for v, want := range map[string]bool{
		"5.9.8": false, "5.9.9": false, "5.9.10": true, "5.9.14": true, "5.10": true, "6.0.1": true, "6.0.2dr1": true, "6.1.0": true, "4.6": false,
		"": true, "next": true,
	} {
		if got := (version{Version: v}).offloads(); got != want {
			t.Errorf("%q: offloads %v, want %v", v, got, want)
		}
	}
}

func TestReadLog(t *testing.T) {
	for line, want := range map[string]string{
		"received AUTHENTICATION_FAILED notify error":                                       CodeAuth,
		"tried 2 shared keys for '10.0.0.1' - '10.0.0.2', but MAC mismatched":               CodeAuth,
		"no shared key found for '10.0.0.1' - '10.0.0.2'":                                   CodeAuth,
		"no private key found for 'hv1'":                                                    CodeAuth,
		"no trusted ECDSA public key found for 'hv2'":                                       CodeAuth,
		"  self-signed certificate \"CN=hv2, O=lab\" is not trusted":                        CodeAuth,
		"received NO_PROPOSAL_CHOSEN notify error":                                          CodeNoProposal,
		"no acceptable proposal found":                                                      CodeNoProposal,
		"received TS_UNACCEPTABLE notify, no CHILD_SA built":                                CodeTS,
		"no acceptable traffic selectors found":                                             CodeTS,
		"received netlink error: Device or resource busy (16)":                              CodeInstall,
		"unable to install inbound and outbound IPsec SA (SAD) in kernel":                   CodeInstall,
		"HW offload is not supported by device pf0":                                         CodeInstall,
		"giving up after 5 retransmits":                                                     CodeNoAnswer,
		"establishing IKE_SA failed, peer not responding":                                   CodeNoAnswer,
		"IKE_SA oio-1[1] established between 10.0.0.1[10.0.0.1]...10.0.0.2[10.0.0.2]":       "",
		"sending packet: from 10.0.0.1[500] to 10.0.0.2[500] (240 bytes)":                   "",
		"authentication of '10.0.0.2' with pre-shared key successful":                       "",
		"selected proposal: ESP:AES_GCM_16_256/EXT_SEQ":                                     "",
		"scheduling rekeying in 12283s":                                                     "",
		"CHILD_SA oio-1-out{3} established with SPIs ca00b90f_i c979670f_o and TS a === b":  "",
		"inbound CHILD_SA oio-1-in{5} established with SPIs ca61910c_i cfaefc8c_o and TS x": "",
	} {
		got := ""
		if p := readLog(line); p != nil {
			got = p.Code
		}
		if got != want {
			t.Errorf("%q: code %q, want %q", line, got, want)
		}
	}
}

func TestEvents(t *testing.T) {
	h := newHeard()
	h.event("child-updown", append(vici.Message{vici.Text("up", "yes")}, listed...))
	h.event("child-updown", vici.Message{vici.Section("oio-5", vici.Text("uniqueid", "3"))})
	h.event("ike-updown", vici.Message{vici.Text("up", "yes"), vici.Section("oio-6")}) // of which one: it does not say
	h.event("ike-rekey", vici.Message{vici.Section("other", vici.Text("x", "y"))})
	h.event("log", vici.Message{vici.Text("ikesa-name", "oio-2"), vici.Text("msg", "sending packet")})
	h.event("log", vici.Message{vici.Text("ikesa-name", "oio-3"), vici.Text("msg", "no acceptable proposal found")})
	h.event("log", vici.Message{vici.Text("ikesa-name", "oio-7"), vici.Text("msg", "failed to establish CHILD_SA, keeping IKE_SA")})
	h.event("alert", vici.Message{vici.Text("type", "install-child-sa-failed"), vici.Section("ike-sa", vici.Section("oio-4"))})
	h.event("alert", vici.Message{vici.Text("type", "shutdown-signal")})
	got := h.take()
	if want := map[string]bool{"oio-3": true, "oio-4": true, "oio-5": true, "oio-6": true, "oio-7": true}; !cmp.Equal(got.names, want) {
		t.Errorf("to look at: %v, want %v", got.names, want)
	}
	if want := readSAs(listed); !cmp.Equal(got.seen, want) {
		t.Errorf("seen %+v, want %+v", got.seen, want)
	}
	if r := got.reasons; len(r) != 2 || r[0].why.Code != CodeNoProposal || r[1].why.Code != CodeInstall {
		t.Errorf("reasons %+v", r)
	}
	if len(h.news) != 1 {
		t.Error("nobody is woken")
	}
	if got = h.take(); len(got.names)+len(got.seen)+len(got.reasons) > 0 {
		t.Error("taken twice")
	}
}

func TestSeenLater(t *testing.T) {
	was := sa{ID: 1, State: "CONNECTING", Children: []childSA{{ID: 5, State: "INSTALLING"}, {ID: 6}}}
	got := was.with(sa{ID: 1, State: "ESTABLISHED", Children: []childSA{{ID: 5, State: "INSTALLED"}}})
	want := sa{ID: 1, State: "ESTABLISHED", Children: []childSA{{ID: 5, State: "INSTALLED"}, {ID: 6}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
