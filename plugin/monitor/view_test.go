// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

var update = flag.Bool("update", false, "write the answers into testdata")

// world is a view that is put together piece by piece.
type world struct {
	View
	t testing.TB
}

func newWorld(t testing.TB) *world {
	return &world{t: t, View: View{Version: func(string) int { return 1 }, Name: commonName,
		Seen: plugin.Seen{Device: func(ifindex int) string { return fmt.Sprintf("pf%d", ifindex-4) }}}}
}

// commonName is that of certificates that are called after it.
func commonName(cert string) string { return strings.TrimSuffix(filepath.Base(cert), ".pem") }

// port adds a port and what is said of it.
func (w *world) port(t ovsdb.Tunnel, state string, problems ...plugin.Problem) {
	t.IPsec = true
	w.Snapshot.Tunnels = append(w.Snapshot.Tunnels, t)
	if state != "" {
		w.Seen.Status.Ports = append(w.Seen.Status.Ports, plugin.PortStatus{Name: t.Name, State: state, Problems: problems})
	}
}

// vxlan returns a port as it should be.
func vxlan(name, local, remote, keys string) ovsdb.Tunnel {
	t := ovsdb.Tunnel{Name: name, Type: "vxlan", DstPort: 4789, Mode: ovsdb.Transport, Keys: keys, OFPort: 1}
	t.Local, _ = netip.ParseAddr(local)
	t.Remote, _ = netip.ParseAddr(remote)
	return t
}

// pair adds a pair with its SAs and policies, each SA with a key.
func (w *world) pair(local, remote string, port uint16, spi uint32, ports ...string) {
	l, r := netip.MustParseAddr(local), netip.MustParseAddr(remote)
	w.Seen.Status.Pairs = append(w.Seen.Status.Pairs, plugin.PairStatus{Local: local, Remote: remote, Port: port, State: plugin.StateEncrypted, PF: "pf0", Ports: ports,
		SPIIn: fmt.Sprintf("0x%08x", spi), SPIOut: fmt.Sprintf("0x%08x", spi+1),
		In: plugin.Traffic{Packets: 10, Bytes: 1000}, Out: plugin.Traffic{Packets: 20, Bytes: 2000, Dropped: 1}})
	for dir, e := range map[xfrm.Dir][2]netip.Addr{xfrm.In: {r, l}, xfrm.Out: {l, r}} {
		key, ok := xfrm.NewKey(planted())
		if !ok {
			w.t.Fatal("no key")
		}
		s := xfrm.SA{Src: e[0], Dst: e[1], SPI: spi + uint32(dir), Reqid: 0x40000000 | spi, Dir: dir, ESN: true, Key: key, KeyPrint: key.Fingerprint(),
			Offload: xfrm.Offload{Ifindex: 4, Packet: true}}
		if dir == xfrm.In {
			s.Window = 64
		}
		w.Seen.SAs = append(w.Seen.SAs, s)
		w.policy(dir, host(e[0]), host(e[1]), port, plugin.PriorityAllow, &xfrm.Template{Reqid: s.Reqid})
	}
	slices.SortStableFunc(w.Seen.SAs, func(a, b xfrm.SA) int { return int(a.SPI) - int(b.SPI) })
	slices.SortStableFunc(w.Seen.Policies, func(a, b xfrm.Policy) int {
		return strings.Compare(fmt.Sprint(a.Sel, a.Dir), fmt.Sprint(b.Sel, b.Dir))
	})
}

func (w *world) policy(dir xfrm.Dir, src, dst netip.Prefix, port uint16, priority uint32, tmpl *xfrm.Template) {
	p := xfrm.Policy{Dir: dir, Sel: xfrm.Selector{Src: src, Dst: dst, Proto: 17, DstPort: port}, Priority: priority, Tmpl: tmpl, Offload: xfrm.Offload{Ifindex: 4, Packet: true}}
	if tmpl == nil {
		p.Action = xfrm.Block
	}
	w.Seen.Policies = append(w.Seen.Policies, p)
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// swordfish is the psk of a port.
const swordfish = "a psk that must not come out"

// planted returns the key of every SA.
func planted() []byte { return []byte("a key that must not come out: 123456") }

// example is a host with ports of every kind.
func example(t testing.TB) *world {
	w := newWorld(t)
	w.Snapshot.Host.SKBMark = "0/1"
	w.Snapshot.Host.PKI = ovsdb.PKI{Certificate: "/pki/hv1.pem", PrivateKey: "/pki/hv1.key", CACert: "/pki/ca.pem"}
	w.port(vxlan("vx0", "10.0.0.1", "10.0.0.2", "hv1-hv2"), plugin.StateEncrypted)
	v6 := vxlan("vx1", "", "fd00::2", "hv1-hv3")
	v6.Mode, v6.Dev, v6.Fault, v6.OFPort = ovsdb.Tunneled, "pf0", new(false), 2
	w.port(v6, plugin.StateEncrypted)
	other := vxlan("vx2", "10.0.0.1", "10.0.0.2", "hv1-hv2-b")
	other.DstPort, other.Fault = 4790, new(true)
	w.port(other, plugin.StateEncrypted)
	w.port(vxlan("vx3", "10.0.0.1", "10.0.0.4", "nosuch"), plugin.StateBlocked, plugin.Problem{Code: "KEY_MISSING", Text: `key set "nosuch" is missing`})
	psk := vxlan("vx4", "10.0.0.1", "fd00::4", "")
	psk.OFPort, psk.Auth = 0, ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret(swordfish)}
	psk.Problems = []ovsdb.Problem{{Code: "OPT_FAMILY", Text: "local_ip and remote_ip are of two families"}, {Code: "OPT_PEER", Text: "ipsec_peer is wrong"}}
	w.port(psk, plugin.StateBlocked, plugin.Problem{Code: "OPT_FAMILY", Text: "local_ip and remote_ip are of two families"})
	filed := vxlan("vx5", "10.0.0.1", "10.0.0.5", "")
	filed.Auth, filed.StockPeer = ovsdb.Auth{Method: ovsdb.MethodPSK, PSKFile: "/etc/psk"}, true
	filed.IKE = ovsdb.IKE{ReplayWindow: 128, RekeyTime: time.Hour, IKERekeyTime: 8 * time.Hour, DPDDelay: 30 * time.Second}
	w.port(filed, plugin.StateBlocked)
	selfSigned := vxlan("vx6", "10.0.0.1", "10.0.0.6", "")
	selfSigned.Auth = ovsdb.Auth{Method: ovsdb.MethodSelfSigned, RemoteCert: "/pki/hv6.pem"}
	w.port(selfSigned, plugin.StateBlocked)
	signed := vxlan("vx7", "10.0.0.1", "10.0.0.7", "")
	signed.Auth = ovsdb.Auth{Method: ovsdb.MethodCA, RemoteName: "hv7"}
	w.port(signed, plugin.StateBlocked)
	flow := vxlan(`vx'"\`+"\n5", "10.0.0.1", "", "k")
	flow.ByFlow = true
	w.port(flow, "")
	w.Snapshot.Tunnels = append(w.Snapshot.Tunnels, ovsdb.Tunnel{Name: "plain", Type: "vxlan", Remote: netip.MustParseAddr("10.0.0.9")})
	w.policy(xfrm.Out, netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("0.0.0.0/0"), 4789, plugin.PriorityGuard, nil)
	w.pair("10.0.0.1", "10.0.0.2", 4789, 0x1000, "vx0")
	w.pair("fd00::1", "fd00::2", 4789, 0x2000, "vx1")
	w.pair("10.0.0.1", "10.0.0.2", 4790, 0x3000, "vx2")
	half := &w.Seen.Status.Pairs[2]
	half.SPIIn = ""
	w.Seen.Status.Pairs = append(w.Seen.Status.Pairs, plugin.PairStatus{Local: "10.0.0.1", Remote: "10.0.0.4", Port: 4789, State: plugin.StateBlocked, Ports: []string{"vx3"}})
	return w
}

// answers are all that a view can be asked for, by command.
func answers(v View) map[string]string {
	return map[string]string{"tunnels-show": v.Tunnels(), "ipsec-status": v.Connections(), "xfrm-policies": v.Policies(), "xfrm-state": v.States()}
}

func TestAnswers(t *testing.T) {
	for name, got := range answers(example(t).View) {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswersOfNothing(t *testing.T) {
	want := map[string]string{"tunnels-show": "No tunnels configured with IPsec\n", "ipsec-status": "{}\n", "xfrm-policies": "{}\n", "xfrm-state": "{}\n"}
	if diff := cmp.Diff(want, answers(newWorld(t).View)); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// readDict reads ipsec/status as OVN-Kubernetes does.
func readDict(text string) (m map[string]map[string]string, err error) {
	text = strings.ReplaceAll(strings.ReplaceAll(text, `"`, `\"`), `'`, `"`)
	return m, json.Unmarshal([]byte(text), &m)
}

func TestConnectionsAreRead(t *testing.T) {
	m, err := readDict(example(t).Connections())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for port, cs := range m {
		for name := range cs {
			got[port] = append(got[port], name)
		}
		slices.Sort(got[port])
	}
	want := map[string][]string{"vx0": {"vx0-in-1", "vx0-out-1"}, "vx1": {"vx1-in-1", "vx1-out-1"}, "vx2": {"vx2-out-1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
}

// TestAnyName: whatever a port is called, answers stay what their readers take.
func TestAnyName(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.String().Draw(r, "name")
		w := newWorld(t)
		w.port(vxlan(name, "10.0.0.1", "10.0.0.2", name), plugin.StateEncrypted)
		w.pair("10.0.0.1", "10.0.0.2", 4789, 0x1000, name)
		m, err := readDict(w.Connections())
		if err != nil || len(m) != 1 {
			r.Fatalf("%q: %v, %v", name, m, err)
		}
		if n := strings.Count(w.Tunnels(), "\n"); n != 27 {
			r.Fatalf("%q: %d lines", name, n)
		}
	})
}

// TestNoSecret: no answer has the key of an SA or a psk, however it might be
// written, nor what tells one key from another.
func TestNoSecret(t *testing.T) {
	for name, text := range answers(example(t).View) {
		for _, secret := range [][]byte{planted(), []byte(swordfish)} {
			print := xfrm.FingerprintOf(secret)
			for _, form := range []string{string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), print.String(), fmt.Sprint(secret)} {
				if strings.Contains(strings.ToLower(text), strings.ToLower(form[:8])) {
					t.Errorf("%s has a secret: %s", name, form)
				}
			}
		}
	}
}

func TestVersions(t *testing.T) {
	w := example(t)
	v := NewVersions()
	if n := v.Of("vx0"); n != 1 {
		t.Errorf("before it was noted: %d", n)
	}
	note := func(want int, what string) {
		t.Helper()
		v.Note(w.Snapshot, commonName)
		if n := v.Of("vx0"); n != want {
			t.Errorf("%s: version %d, want %d", what, n, want)
		}
	}
	vx0 := &w.Snapshot.Tunnels[0]
	note(1, "first")
	vx0.OFPort, vx0.Fault = 9, new(true)
	note(1, "status only")
	vx0.Keys = "hv1-hv2-new"
	note(2, "new keys")
	vx0.DstPort = 4790
	note(3, "another UDP port")
	w.Snapshot.Host.SKBMark = ""
	note(4, "another mark")
	vx0.Auth = ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret("a")}
	note(5, "a psk")
	vx0.Auth.PSK = ovsdb.NewSecret("b")
	note(6, "another psk")
	if n := v.Of("vx1"); n != 2 {
		t.Errorf("the other one: version %d", n)
	}
	vx0.IPsec = false
	note(1, "gone")
	vx0.IPsec = true
	note(1, "here again")
}

// BenchmarkAnswers is the time of each answer, with its length.
func BenchmarkAnswers(b *testing.B) {
	for _, n := range []int{400, 10000} {
		w := crowd(b, n)
		for name, ask := range map[string]func() string{"tunnels-show": w.Tunnels, "ipsec-status": w.Connections, "xfrm-policies": w.Policies, "xfrm-state": w.States} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					b.SetBytes(int64(len(ask())))
				}
			})
		}
	}
}

// crowd is a host with n ports, each with a peer of its own.
func crowd(b testing.TB, n int) *world {
	w := newWorld(b)
	v := NewVersions()
	w.Version = v.Of
	for i := range n {
		name, remote := fmt.Sprintf("ovn-%06d-0", i), fmt.Sprintf("10.%d.%d.2", 1+i/250, i%250)
		t := vxlan(name, "10.0.0.1", remote, "hv1-hv2-"+name)
		w.port(t, plugin.StateEncrypted)
		p := plugin.PairStatus{Local: "10.0.0.1", Remote: remote, Port: 4789, State: plugin.StateEncrypted, PF: "pf0", Ports: []string{name}, SPIIn: fmt.Sprintf("0x%08x", 2*i+256), SPIOut: fmt.Sprintf("0x%08x", 2*i+257)}
		w.Seen.Status.Pairs = append(w.Seen.Status.Pairs, p)
		for dir, e := range [][2]netip.Addr{{t.Remote, t.Local}, {t.Local, t.Remote}} {
			s := xfrm.SA{Src: e[0], Dst: e[1], SPI: uint32(2*i + 256 + dir), Reqid: uint32(i + 1), Dir: xfrm.Dir(dir), ESN: true, Offload: xfrm.Offload{Ifindex: 4, Packet: true}}
			w.Seen.SAs = append(w.Seen.SAs, s)
			w.policy(s.Dir, host(e[0]), host(e[1]), 4789, plugin.PriorityAllow, &xfrm.Template{Reqid: s.Reqid})
		}
	}
	v.Note(w.Snapshot, commonName)
	return w
}
