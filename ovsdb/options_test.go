// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(kind string, options ...string) Tunnel {
	opts := map[string]string{}
	for i := 0; i < len(options); i += 2 {
		opts[options[i]] = options[i+1]
	}
	t := Tunnel{Name: "vx1", Type: kind}
	readOptions(&t, opts, PKI{})
	return t
}

func codes(t Tunnel) []string {
	var cs []string
	for _, p := range t.Problems {
		cs = append(cs, p.Code)
	}
	return cs
}

// good is the options of a valid port.
var good = []string{"remote_ip", "10.0.0.2", "local_ip", "10.0.0.1", "ipsec_keys", "hv1-hv2"}

func TestOneOption(t *testing.T) {
	long := strings.Repeat("z", 128)
	for _, tc := range []struct {
		key, value string
		want       []string // codes
	}{
		{"key", "flow", nil},
		{"csum", "true", nil},
		{"remote_ip", "10.0.0.3", nil},
		{"remote_ip", "", []string{CodeRemoteIP}},
		{"remote_ip", "hv2", []string{CodeRemoteIP}},
		{"remote_ip", "10.0.0.300", []string{CodeRemoteIP}},
		{"remote_ip", " 10.0.0.3", []string{CodeRemoteIP}},
		{"remote_ip", "010.0.0.3", []string{CodeRemoteIP}},
		{"remote_ip", "flow", []string{CodeRemoteIP}},
		{"remote_ip", "FLOW", []string{CodeRemoteIP}},
		{"remote_ip", "0.0.0.0", []string{CodeRemoteIP}},
		{"remote_ip", "::", []string{CodeRemoteIP}},
		{"remote_ip", "239.1.1.1", []string{CodeRemoteIP}},
		{"remote_ip", "ff02::1", []string{CodeRemoteIP}},
		{"remote_ip", "::ffff:239.1.1.1", []string{CodeRemoteIP}},
		{"remote_ip", "255.255.255.255", []string{CodeRemoteIP}},
		{"remote_ip", "10.0.0.1", []string{CodeRemoteIP}}, // is local_ip
		{"remote_ip", "fe80::1%eth0", []string{CodeRemoteIP}},
		{"remote_ip", "::ffff:10.0.0.3", []string{CodeRemoteIP}},
		{"remote_ip", "fd00::2", []string{CodeFamily}},
		{"local_ip", "fd00::1", []string{CodeFamily}},
		{"local_ip", "flow", []string{CodeLocalIP}},
		{"local_ip", "x", []string{CodeLocalIP}},
		{"local_ip", "0.0.0.0", []string{CodeLocalIP}},
		{"local_ip", "224.0.0.1", []string{CodeLocalIP}},
		{"local_ip", "::ffff:10.0.0.1", []string{CodeLocalIP}},
		{"dst_port", "4790", nil},
		{"dst_port", "1", nil},
		{"dst_port", "65535", nil},
		{"dst_port", "0", []string{CodeDstPort}},
		{"dst_port", "65536", []string{CodeDstPort}},
		{"dst_port", "-1", []string{CodeDstPort}},
		{"dst_port", "+1", []string{CodeDstPort}},
		{"dst_port", "4789x", []string{CodeDstPort}},
		{"dst_port", "0x12b5", []string{CodeDstPort}},
		{"dst_port", "", []string{CodeDstPort}},
		{"ipsec_mode", "transport", nil},
		{"ipsec_mode", "tunnel", nil},
		{"ipsec_mode", "", []string{CodeMode}},
		{"ipsec_mode", "Tunnel", []string{CodeMode}},
		{"ipsec_mode", "beet", []string{CodeMode}},
		{"ipsec_offload", "packet", nil},
		{"ipsec_offload", "crypto", []string{CodeOffload}},
		{"ipsec_offload", "none", []string{CodeOffload}},
		{"ipsec_offload", "no", []string{CodeOffload}},
		{"ipsec_offload", "", []string{CodeOffload}},
		{"ipsec_keys", long, nil},
		{"ipsec_keys", "a.b_c-1", nil},
		{"ipsec_keys", "", []string{CodeKeys}},
		{"ipsec_keys", "a/b", []string{CodeKeys}},
		{"ipsec_keys", "../shadow", []string{CodeKeys}},
		{"ipsec_keys", ".hidden", []string{CodeKeys}},
		{"ipsec_keys", "-rf", []string{CodeKeys}},
		{"ipsec_keys", "a b", []string{CodeKeys}},
		{"ipsec_keys", "a\n", []string{CodeKeys}},
		{"ipsec_keys", "a\x00b", []string{CodeKeys}},
		{"ipsec_keys", long + "z", []string{CodeKeys}},
		{"ipsec_keys", strings.Repeat("0123456789abcdef", 4), []string{CodeRawKey}},
		{"ipsec_keys", "0x" + strings.Repeat("AB", 36), []string{CodeRawKey}},
		{"ipsec_keys", strings.Repeat("a1", 15), nil}, // too short for any key
		{"ipsec_dev", "enp8s0f0np0", nil},
		{"ipsec_dev", "", []string{CodeDev}},
		{"ipsec_dev", "..", []string{CodeDev}},
		{"ipsec_dev", "a/b", []string{CodeDev}},
		{"ipsec_dev", "a b", []string{CodeDev}},
		{"ipsec_dev", "abcdefghijklmnop", []string{CodeDev}},
		{"psk", "x", []string{CodeKeySources}},
		{"psk_file", "/p", []string{CodeKeySources}},
		{"remote_cert", "/etc/c.pem", []string{CodeKeySources, CodeNoCert}},
		{"remote_name", "hv2", []string{CodeKeySources, CodeNoCert, CodeNoCA}},
		{"ipsec_peer", "ovs-monitor-ipsec", []string{CodePeer}}, // needs IKE
		{"ipsec_key", "x", []string{CodeRawKey}},
		{"ipsec_psk", "x", []string{CodeRawKey}},
		{"IPSEC-KEY", "x", []string{CodeRawKey}},
		{"ipsec_in_enckey", "x", []string{CodeRawKey}},
		{"ipsec_esp", "0x" + strings.Repeat("ab", 36), []string{CodeRawKey}},
		{"ipsec_encapsulation", "no", []string{CodeIKEOption}}, // needs IKE
		{"ipsec_rekey", "no", []string{CodeIKEOption}},
		{"ipsec_dpddelay", "30", []string{CodeIKEOption}},
		{"ipsec_leftid", "x", []string{CodeUnknown}},
		{"ipsec_", "", []string{CodeUnknown}},
		{"ipsec-keys", "a", []string{CodeUnknown}},
		{" ipsec_mode", "tunnel", []string{CodeUnknown}},
		{"IPsec_mode", "tunnel", []string{CodeUnknown}},
		{"PSK", "x", []string{CodeUnknown}},
		{"remote-cert", "x", []string{CodeUnknown}},
	} {
		got := read("vxlan", append(slices.Clone(good), tc.key, tc.value)...)
		if !slices.Equal(codes(got), tc.want) {
			t.Errorf("%s=%q: problems %v, want %v", tc.key, tc.value, got.Problems, tc.want)
		}
		if !got.IPsec {
			t.Errorf("%s=%q: IPsec is not wanted any more", tc.key, tc.value)
		}
	}
}

// TestAlone: one option alone must be enough to ask for IPsec, however it is
// spelt, and nothing else may be.
func TestAlone(t *testing.T) {
	for _, k := range []string{"psk", "remote_cert", "remote_name", "ipsec_keys", "ipsec_mode", "ipsec_x", "ipsec-keys", "IPSEC_KEYS", "psk_file", "PSK-file", "ipsec_psk_file", "ipsec_dpddelay", " psk ", "Remote-Name", "ipseckeys"} {
		if got := read("vxlan", "remote_ip", "10.0.0.2", k, "v"); !got.IPsec || len(got.Problems)+len(got.Keys)+len(got.Auth.Method) == 0 {
			t.Errorf("option %q alone: %+v, want IPsec", k, got)
		}
	}
	for _, k := range []string{"key", "dst_port", "pskx", "remote_names", "xipsec_keys", ""} {
		if got := read("vxlan", "remote_ip", "flow", k, "v"); got.IPsec || got.Problems != nil || got.Mode != "" || got.Keys != "" {
			t.Errorf("option %q alone: %+v, want a plain port without problems", k, got)
		}
	}
}

// TestEveryProblem: an operator hears of all mistakes at once.
func TestEveryProblem(t *testing.T) {
	got := read("geneve", "remote_ip", "flow", "local_ip", "fd00::1%1", "dst_port", "many", "ipsec_mode", "m", "ipsec_offload", "o",
		"ipsec_keys", "/", "psk", "", "psk_file", "p", "remote_cert", "c", "remote_name", "*", "ipsec_peer", "x", "ipsec_dev", "/",
		"ipsec_b", "", "ipsec_a", "", "ipsec_a_key", "", "ipsec_esp", "des")
	want := []string{CodeType, CodeRemoteIP, CodeLocalIP, CodeDstPort, CodeMode, CodeOffload,
		CodeKeys, CodeKeySources, CodePSK, CodePSKFile, CodeRemoteCert, CodeRemoteName, CodeNoCert, CodePeer,
		CodeDev, CodeUnknown, CodeRawKey, CodeUnknown, CodeIKEOption}
	if diff := cmp.Diff(want, codes(got)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// TestPortAsOVS: a refused dst_port still tells where the traffic goes.
func TestPortAsOVS(t *testing.T) {
	for v, want := range map[string]uint16{
		"4789": 4789, " 4790": 4790, "+5": 5, "-1": 65535, "70000": 4464, "4789x": 4789, "x": 0, "": 0, "0x10": 0,
		"4294967297": 1, "9223372036854775807": 65535, "9223372036854775808": 65535, "99999999999999999999": 65535, "-99999999999999999999": 0,
	} {
		if got := portAsOVS(v); got != want {
			t.Errorf("portAsOVS(%q) = %d, want %d", v, got, want)
		}
	}
}

func TestTunnelPort(t *testing.T) {
	for kind, want := range map[string]uint16{"vxlan": 4789, "geneve": 6081, "gre": 0, "stt": 0} {
		if got := read(kind).DstPort; got != want {
			t.Errorf("port of %s is %d, want %d", kind, got, want)
		}
		if got := read(kind, "dst_port", "99").DstPort; want != 0 && got != 99 || want == 0 && got != 0 {
			t.Errorf("port of %s with dst_port=99 is %d", kind, got)
		}
	}
}

// FuzzOptions: whatever the options, reading them ends, gives the same result
// twice, never takes a wish for IPsec for none, and never repeats a secret.
func FuzzOptions(f *testing.F) {
	f.Add("vxlan", "remote_ip=10.0.0.2\nipsec_keys=a")
	f.Add("geneve", "psk=x\nremote_ip=flow\nipsec-keys=\xff")
	f.Add("vxlan", "remote_ip=10.0.0.2\npsk=\nipsec_salifetime=1h\nipsec_dpd-delay=\nremote_name=%any\nipsec_peer=x")
	f.Add("vxlan", "dst_port=99999999999999999999\nipsec_key=0xdeadbeef\n IPSEC_PSK=\n=")
	f.Fuzz(func(t *testing.T, kind, text string) {
		const secret = "\u2603the-secret\u2603"
		opts := map[string]string{}
		wanted := false
		for _, line := range strings.Split(text, "\n") {
			k, v, _ := strings.Cut(line, "=")
			if secretOption(k) {
				v += secret
			}
			opts[k] = v
			wanted = wanted || k == "psk" || k == "remote_cert" || k == "remote_name" || strings.HasPrefix(k, "ipsec_")
		}
		a, b := Tunnel{Name: "n", Type: kind}, Tunnel{Name: "n", Type: kind}
		readOptions(&a, opts, PKI{})
		readOptions(&b, opts, PKI{})
		if !a.equal(b) {
			t.Errorf("two readings differ: %+v and %+v", a, b)
		}
		if wanted && !a.IPsec {
			t.Error("IPsec is wanted but not seen")
		}
		if !a.IPsec && len(a.Problems) > 0 {
			t.Errorf("a plain port has problems: %v", a.Problems)
		}
		if a.IPsec && a.Keys == "" && a.Auth.Method == "" && len(a.Problems) == 0 {
			t.Error("a port without keys has no problem")
		}
		if strings.Contains(fmt.Sprintf("%+v", a), secret) {
			t.Errorf("a secret shows: %+v", a)
		}
		for _, p := range slices.Concat(a.Problems, a.Notes) {
			if p.Code == "" || p.Text == "" || strings.ContainsAny(p.Text, "\n\x00") {
				t.Errorf("problem %+v does not fit on a line", p)
			}
		}
	})
}
