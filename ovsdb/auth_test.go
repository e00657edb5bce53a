// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ports and hosts of the tests below.
var (
	wholePKI = PKI{Certificate: "/c.pem", PrivateKey: "/k.pem", CACert: "/ca.pem"}
	ownPKI   = PKI{Certificate: "/c.pem", PrivateKey: "/k.pem"}
)

func readIKE(pki PKI, options string) Tunnel {
	opts := map[string]string{"remote_ip": "10.0.0.2", "local_ip": "10.0.0.1"}
	for _, w := range strings.Fields(options) {
		k, v, _ := strings.Cut(w, "=")
		opts[k] = v
	}
	t := Tunnel{Name: "vx1", Type: "vxlan"}
	readOptions(&t, opts, pki)
	return t
}

// TestAuth has the rules of ovs-monitor-ipsec, port by port.
func TestAuth(t *testing.T) {
	for _, tc := range []struct {
		name, options string
		pki           PKI
		want          Auth
		codes         []string
	}{
		{"psk", "psk=swordfish", PKI{}, Auth{Method: MethodPSK, PSK: NewSecret("swordfish")}, nil},
		{"psk beside the host's certificate", "psk=swordfish", wholePKI, Auth{Method: MethodPSK, PSK: NewSecret("swordfish")}, nil},
		{"psk with half a certificate", "psk=s", PKI{Certificate: "/c"}, Auth{Method: MethodPSK, PSK: NewSecret("s")}, nil},
		{"a psk that looks like a key", "psk=" + strings.Repeat("ab", 32), PKI{}, Auth{Method: MethodPSK, PSK: NewSecret(strings.Repeat("ab", 32))}, nil},
		{"empty psk", "psk=", PKI{}, Auth{Method: MethodPSK}, []string{CodePSK}},
		{"psk_file", "psk_file=/etc/p", PKI{}, Auth{Method: MethodPSK, PSKFile: "/etc/p"}, nil},
		{"ipsec_psk_file", "ipsec_psk_file=/etc/p", PKI{}, Auth{Method: MethodPSK, PSKFile: "/etc/p"}, nil},
		{"both spellings alike", "psk_file=/p ipsec_psk_file=/p", PKI{}, Auth{Method: MethodPSK, PSKFile: "/p"}, nil},
		{"both spellings, two files", "psk_file=/p ipsec_psk_file=/q", PKI{}, Auth{Method: MethodPSK}, []string{CodePSKFile}},
		{"a relative path", "psk_file=p", PKI{}, Auth{Method: MethodPSK}, []string{CodePSKFile}},
		{"a path in another way", "psk_file=/a/../p", PKI{}, Auth{Method: MethodPSK}, []string{CodePSKFile}},
		{"no path", "psk_file=", PKI{}, Auth{Method: MethodPSK}, []string{CodePSKFile}},
		{"a directory", "psk_file=/", PKI{}, Auth{Method: MethodPSK}, []string{CodePSKFile}},
		{"psk and psk_file", "psk=s psk_file=/p", PKI{}, Auth{Method: MethodPSK, PSK: NewSecret("s"), PSKFile: "/p"}, []string{CodeKeySources}},
		{"psk and remote_name", "psk=s remote_name=hv2", wholePKI, Auth{Method: MethodCA, PSK: NewSecret("s"), RemoteName: "hv2"}, []string{CodeKeySources}},
		{"psk and remote_cert", "psk=s remote_cert=/r", wholePKI, Auth{Method: MethodSelfSigned, PSK: NewSecret("s"), RemoteCert: "/r"}, []string{CodeKeySources}},
		{"psk and a key set", "psk=s ipsec_keys=a", PKI{}, Auth{Method: MethodPSK, PSK: NewSecret("s")}, []string{CodeKeySources}},

		{"self-signed", "remote_cert=/r.pem", ownPKI, Auth{Method: MethodSelfSigned, RemoteCert: "/r.pem"}, nil},
		{"self-signed beside a CA", "remote_cert=/r.pem", wholePKI, Auth{Method: MethodSelfSigned, RemoteCert: "/r.pem"}, nil},
		{"self-signed with a name", "remote_cert=/r.pem remote_name=hv2", ownPKI, Auth{Method: MethodSelfSigned, RemoteCert: "/r.pem", RemoteName: "hv2"}, nil},
		{"self-signed without a certificate", "remote_cert=/r.pem", PKI{PrivateKey: "/k"}, Auth{Method: MethodSelfSigned, RemoteCert: "/r.pem"}, []string{CodeNoCert}},
		{"self-signed without a key", "remote_cert=/r.pem", PKI{Certificate: "/c"}, Auth{Method: MethodSelfSigned, RemoteCert: "/r.pem"}, []string{CodeNoCert}},
		{"a relative certificate", "remote_cert=r.pem", ownPKI, Auth{Method: MethodSelfSigned}, []string{CodeRemoteCert}},
		{"CA", "remote_name=hv2", wholePKI, Auth{Method: MethodCA, RemoteName: "hv2"}, nil},
		{"CA without one", "remote_name=hv2", ownPKI, Auth{Method: MethodCA, RemoteName: "hv2"}, []string{CodeNoCA}},
		{"CA alone", "remote_name=hv2", PKI{CACert: "/ca"}, Auth{Method: MethodCA, RemoteName: "hv2"}, []string{CodeNoCert}},
		{"no name", "remote_name=", wholePKI, Auth{Method: MethodCA}, []string{CodeRemoteName}},
		{"any name", "remote_name=*", wholePKI, Auth{Method: MethodCA}, []string{CodeRemoteName}},
		{"any name, as an IKE daemon has it", "remote_name=%any", wholePKI, Auth{Method: MethodCA}, []string{CodeRemoteName}},
		{"a pattern", "remote_name=*.example.com", wholePKI, Auth{Method: MethodCA}, []string{CodeRemoteName}},
		{"a long name", "remote_name=" + strings.Repeat("a", 256), wholePKI, Auth{Method: MethodCA}, []string{CodeRemoteName}},
		{"tunnel mode", "psk=s ipsec_mode=tunnel", PKI{}, Auth{Method: MethodPSK, PSK: NewSecret("s")}, []string{CodeMode}},
		{"one child of a stock peer", "psk=s ipsec_children=one ipsec_peer=ovs-monitor-ipsec", PKI{}, Auth{Method: MethodPSK, PSK: NewSecret("s")}, []string{CodeChildren}},
		{"an odd number of children", "psk=s ipsec_children=1", PKI{}, Auth{Method: MethodPSK, PSK: NewSecret("s")}, []string{CodeChildren}},
		{"one child without IKE", "ipsec_keys=k ipsec_children=one", PKI{}, Auth{}, []string{CodeChildren}},
		{"by flow", "psk=s remote_ip=flow", PKI{}, Auth{Method: MethodPSK, PSK: NewSecret("s")}, []string{CodeRemoteIP}},
		{"two families", "psk=s remote_ip=fd00::2", PKI{}, Auth{Method: MethodPSK, PSK: NewSecret("s")}, []string{CodeFamily}},
	} {
		got := readIKE(tc.pki, tc.options)
		if diff := cmp.Diff(tc.want, got.Auth); diff != "" || !slices.Equal(codes(got), tc.codes) {
			t.Errorf("%s: problems %v, want %v (-want +got):\n%s", tc.name, got.Problems, tc.codes, diff)
		}
	}
}

// TestPassthrough: what ovs-monitor-ipsec would write into ipsec.conf.
func TestPassthrough(t *testing.T) {
	refused := []string{CodeIKEOption}
	for _, tc := range []struct {
		option string
		want   IKE
		codes  []string
	}{
		{"ipsec_children=one", IKE{OneChild: true}, nil},
		{"ipsec_children=two", IKE{}, nil},
		{"ipsec_replay-window=64", IKE{ReplayWindow: 64}, nil},
		{"ipsec_replay_window=256", IKE{ReplayWindow: 256}, nil},
		{"ipsec_replay-window=0", IKE{}, refused},
		{"ipsec_replay-window=48", IKE{}, refused},
		{"ipsec_replay-window=many", IKE{}, refused},
		{"ipsec_replay-window=32 ipsec_replay_window=64", IKE{ReplayWindow: 32}, refused},
		{"ipsec_replay-window=32 ipsec_replay_window=32", IKE{ReplayWindow: 32}, nil},
		{"ipsec_salifetime=3600", IKE{RekeyTime: time.Hour}, nil},
		{"ipsec_salifetime=30s", IKE{RekeyTime: 30 * time.Second}, nil},
		{"ipsec_keylife=1d", IKE{RekeyTime: 24 * time.Hour}, nil},
		{"ipsec_lifetime=90m", IKE{RekeyTime: 90 * time.Minute}, nil},
		{"ipsec_ipsec-lifetime=8h", IKE{RekeyTime: 8 * time.Hour}, nil},
		{"ipsec_salifetime=2d", IKE{}, refused},
		{"ipsec_salifetime=9", IKE{}, refused},
		{"ipsec_salifetime=", IKE{}, refused},
		{"ipsec_salifetime=1ms", IKE{}, refused},
		{"ipsec_salifetime=h", IKE{}, refused},
		{"ipsec_salifetime=-1", IKE{}, refused},
		{"ipsec_salifetime=2147483647d", IKE{}, refused},
		{"ipsec_keylife=1h ipsec_salifetime=2h", IKE{RekeyTime: time.Hour}, refused},
		{"ipsec_ikelifetime=4h", IKE{IKERekeyTime: 4 * time.Hour}, nil},
		{"ipsec_dpddelay=30", IKE{DPDDelay: 30 * time.Second}, nil},
		{"ipsec_dpd-delay=5s", IKE{DPDDelay: 5 * time.Second}, nil},
		{"ipsec_dpddelay=0", IKE{}, refused},
		{"ipsec_encapsulation=yes", IKE{}, refused},
		{"ipsec_forceencaps=yes", IKE{}, refused},
		{"ipsec_encapsulation=no ipsec_forceencaps=no", IKE{}, nil},
		{"ipsec_encapsulation=auto", IKE{}, nil},
		{"ipsec_nic-offload=packet ipsec_hw_offload=packet", IKE{}, nil},
		{"ipsec_nic-offload=crypto", IKE{}, refused},
		{"ipsec_type=tunnel", IKE{}, refused},
		{"ipsec_rekey=no", IKE{}, refused},
		{"ipsec_esn=no", IKE{}, refused},
		{"ipsec_esp=aes256-sha1", IKE{}, refused},
		{"ipsec_ike=aes256-sha1", IKE{}, refused},
		{"ipsec_leftid=x", IKE{}, []string{CodeUnknown}},
		{"ipsec_mark=1", IKE{}, []string{CodeUnknown}},
		{"IPSEC_dpddelay=5", IKE{}, []string{CodeUnknown}},
	} {
		got := readIKE(PKI{}, "psk=s "+tc.option)
		if got.IKE != tc.want || !slices.Equal(codes(got), tc.codes) {
			t.Errorf("%s: %+v and problems %v, want %+v and %v", tc.option, got.IKE, got.Problems, tc.want, tc.codes)
		}
		if len(got.Notes) > 0 {
			t.Errorf("%s: notes %v", tc.option, got.Notes)
		}
	}
	for _, o := range []string{"auto=add", "keyingtries=3", "dpdaction=restart", "dpd-timeout=120", "rekeymargin=9m"} {
		got := readIKE(PKI{}, "psk=s ipsec_"+o)
		if len(got.Problems) > 0 || len(got.Notes) != 1 || got.Notes[0].Code != CodeIgnored {
			t.Errorf("%s: problems %v and notes %v, want one note", o, got.Problems, got.Notes)
		}
	}
}

func TestStockPeer(t *testing.T) {
	for options, want := range map[string]string{
		"psk=s ipsec_peer=ovs-monitor-ipsec":                   "",
		"psk=s ipsec_peer=ovs-monitor-ipsec dst_port=4789":     "",
		"psk=s ipsec_peer=ovs-monitor-ipsec dst_port=4790":     CodePeer,
		"psk=s ipsec_peer=libreswan":                           CodePeer,
		"psk=s ipsec_peer=":                                    CodePeer,
		"ipsec_keys=a ipsec_peer=ovs-monitor-ipsec":            CodePeer,
		"remote_name=hv2 ipsec_peer=ovs-monitor-ipsec":         "",
		"ipsec_psk_file=/p ipsec_peer=ovs-monitor-ipsec key=1": "",
	} {
		got := readIKE(wholePKI, options)
		if (want == "") != got.StockPeer || strings.Join(codes(got), " ") != want {
			t.Errorf("%s: %v and problems %v, want %q", options, got.StockPeer, got.Problems, want)
		}
	}
}

func TestPKI(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config map[string]string
		want   PKI
		codes  string
	}{
		{"none", map[string]string{"hw-offload": "true"}, PKI{}, ""},
		{"whole", map[string]string{"certificate": "/c.pem", "private_key": "/k.pem", "ca_cert": "/ca.pem"}, wholePKI, ""},
		{"self-signed", map[string]string{"certificate": "/c.pem", "private_key": "/k.pem"}, ownPKI, ""},
		{"no key", map[string]string{"certificate": "/c.pem"}, PKI{Certificate: "/c.pem"}, CodeHostPKI},
		{"CA alone", map[string]string{"ca_cert": "/ca.pem"}, PKI{CACert: "/ca.pem"}, CodeHostPKI},
		{"a relative path", map[string]string{"certificate": "c.pem", "private_key": "/k.pem"}, PKI{PrivateKey: "/k.pem"}, CodeHostPKI},
		{"a mark", map[string]string{"ipsec_skb_mark": "0/1"}, PKI{}, CodeSKBMark},
	} {
		got := hostOf(&hostRow{UUID: "u", OtherConfig: tc.config})
		var codes []string
		for _, n := range got.Notes {
			codes = append(codes, n.Code)
		}
		if got.PKI != tc.want || strings.Join(codes, " ") != tc.codes {
			t.Errorf("%s: %+v and notes %v, want %+v and %q", tc.name, got.PKI, got.Notes, tc.want, tc.codes)
		}
	}
}

// TestPKIOfHost: a port is judged by the host's row in the same snapshot.
func TestPKIOfHost(t *testing.T) {
	port := &interfaceRow{Name: "vx1", Type: "vxlan", Options: map[string]string{"remote_ip": "10.0.0.2", "remote_name": "hv2"}}
	bare := snapshotOf([]*hostRow{{UUID: "u"}}, []*interfaceRow{port})
	whole := snapshotOf([]*hostRow{{UUID: "u", OtherConfig: map[string]string{"certificate": "/c", "private_key": "/k", "ca_cert": "/ca"}}}, []*interfaceRow{port})
	if len(bare.Tunnels[0].Problems) == 0 || len(whole.Tunnels[0].Problems) > 0 {
		t.Errorf("problems %v without, and %v with the host's certificate", bare.Tunnels[0].Problems, whole.Tunnels[0].Problems)
	}
}

// TestSecretDoesNotPrintItself tries every way of printing, also from fields that
// are not exported, of which fmt calls no methods.
func TestSecretDoesNotPrintItself(t *testing.T) {
	const plain = "swordfish-in-plain"
	tunnel := readIKE(PKI{}, "psk="+plain)
	other := readIKE(PKI{}, "psk=another")
	if !bytes.Equal(tunnel.Auth.PSK.Bytes(), []byte(plain)) {
		t.Fatal("the psk is not read")
	}
	snapshot := Snapshot{Tunnels: []Tunnel{tunnel}}
	var out bytes.Buffer
	for _, v := range []any{tunnel.Auth.PSK, &tunnel.Auth.PSK, tunnel.Auth, tunnel, &tunnel, snapshot, &snapshot,
		struct{ t Tunnel }{tunnel}, struct{ t *Tunnel }{&tunnel}, struct{ s Secret }{tunnel.Auth.PSK}, map[string]Auth{"a": tunnel.Auth}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%t", "%!"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		slog.New(slog.NewTextHandler(&out, nil)).Error("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Error("x", "v", v)
	}
	diff := cmp.Diff(tunnel.Auth, other.Auth)
	if diff == "" || cmp.Diff(tunnel.Auth, readIKE(PKI{}, "psk="+plain).Auth) != "" {
		t.Error("cmp does not compare what is secret")
	}
	out.WriteString(diff)
	for _, form := range []string{plain, fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), "115 119 111", "0x73, 0x77"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("shown as %q", form)
		}
	}
}

func TestSecretEqual(t *testing.T) {
	a, b, c := NewSecret("a"), NewSecret("a"), NewSecret("ab")
	if !a.Equal(b) || a.Equal(c) || a.Equal(Secret{}) || !(Secret{}).Equal(NewSecret("")) {
		t.Error("Equal does not compare values")
	}
	if a.Empty() || !NewSecret("").Empty() {
		t.Error("Empty is wrong")
	}
}
