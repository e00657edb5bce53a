// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/ovsdb/unixctl"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/monitor"
	"ovs-ipsec-offload/xfrm"
)

// watched is a daemon and its database as the monitor socket sees them.
type watched struct {
	snapshot ovsdb.Snapshot
	state    ovsdb.State
	seen     plugin.Seen
	over     bool // a round ends
}

func (w *watched) Current() (ovsdb.Snapshot, ovsdb.State) { return w.snapshot, w.state }

func (w *watched) Seen() plugin.Seen { return w.seen }

func (w *watched) Refresh() plugin.Round { return 7 }

func (w *watched) Await(ctx context.Context, from plugin.Round, is func(plugin.Status) bool) (plugin.Status, bool) {
	return w.seen.Status, w.over && from == 7 && ctx.Err() == nil && is(w.seen.Status)
}

// socketOf returns a monitor socket over w in a directory of its own.
func socketOf(t testing.TB, w *watched) *monitorSocket {
	t.Helper()
	w.seen.Device = func(int) string { return "pf0" }
	return &monitorSocket{place: unixctl.NewPlace(t.TempDir(), monitorName), daemon: w, database: w, versions: monitor.NewVersions(), certs: newCertNames(),
		level: new(slog.LevelVar), check: time.Millisecond, stop: func() {}, log: slog.New(slog.DiscardHandler)}
}

// runs starts a monitor socket and waits until it answers.
func runs(t testing.TB, m *monitorSocket) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); m.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(m.place.PIDFile()), "*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	placed(t, m)
}

func placed(t testing.TB, m *monitorSocket) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !m.place.Stands(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the place is not taken")
		}
	}
}

// dial connects to the socket as ovs-appctl does, but for reading the pid file:
// this process would lose its lock by that.
func dial(t testing.TB, m *monitorSocket) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", strings.TrimSuffix(m.place.PIDFile(), "pid")+fmt.Sprintf("%d.ctl", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// appctl asks and returns the answer.
func appctl(t testing.TB, m *monitorSocket, words ...string) (string, error) {
	t.Helper()
	c := dial(t, m)
	defer c.Close()
	params := append([]string{}, words[1:]...)
	if err := json.NewEncoder(c).Encode(map[string]any{"id": 0, "method": words[0], "params": params}); err != nil {
		t.Fatal(err)
	}
	var r struct{ Result, Error *string }
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		t.Fatal(err)
	}
	if r.Error != nil {
		return "", errors.New(strings.TrimSpace(*r.Error))
	}
	return *r.Result, nil
}

// oneTunnel is a database with a port that has a psk.
func oneTunnel() *watched {
	return &watched{over: true, state: ovsdb.State{Known: true, Connected: true}, snapshot: ovsdb.Snapshot{Tunnels: []ovsdb.Tunnel{{
		Name: "vx0", Type: "vxlan", Remote: netip.MustParseAddr("10.0.0.2"), DstPort: 4789, IPsec: true, Mode: ovsdb.Transport,
		Auth: ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret("swordfish")}}}}}
}

func TestMonitorSocketAnswers(t *testing.T) {
	m := socketOf(t, oneTunnel())
	stopped := 0
	m.stop = func() { stopped++ }
	runs(t, m)
	for _, tc := range []struct{ ask, want, err string }{
		{"tunnels/show", "Interface name: vx0 v1 (CONFIGURED)\n", ""},
		{"tunnels/show", "  PSK:            (secret)\n", ""},
		{"ipsec/status", "{}\n", ""},
		{"xfrm/policies", "{}\n", ""},
		{"xfrm/state", "{}\n", ""},
		{"refresh", "", ""},
		{"version", "ovs-monitor-ipsec (ovs-ipsec-offload) ", ""},
		{"list-commands", "  exit                    [--no-cleanup]\n", ""},
		{"vlog/list", "ovs-monitor-ipsec  info        off        off\n", ""},
		{"vlog/set any:console:dbg", "", ""},
		{"vlog/list", "ovs-monitor-ipsec   dbg        off        off\n", ""},
		{"vlog/set poller:dbg", "", `no destination, level, or module "poller"`},
		{"vlog/reopen", "Logging to file not configured\n", ""},
		{"vlog/close", "", ""},
		{"exit --cleanup", "", "unrecognized parameter: --cleanup"},
		{"nosuch", "", `"nosuch" is not a valid command`},
	} {
		got, err := appctl(t, m, strings.Fields(tc.ask)...)
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) || !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
			t.Errorf("%s: %q, %v", tc.ask, got, err)
		}
		if strings.Contains(got, "swordfish") {
			t.Errorf("%s shows the psk", tc.ask)
		}
	}
	if stopped != 0 {
		t.Error("stopped before exit")
	}
	if got, err := appctl(t, m, "exit"); err != nil || stopped != 1 || !strings.Contains(got, "tears nothing down") {
		t.Errorf("exit: %q, %v", got, err)
	}
	if got, err := appctl(t, m, "exit", "--no-cleanup"); err != nil || stopped != 2 || got != "" {
		t.Errorf("exit --no-cleanup: %q, %v", got, err)
	}
}

// TestMonitorSocketKnowsNothing: it does not say that there is nothing.
func TestMonitorSocketKnowsNothing(t *testing.T) {
	m := socketOf(t, &watched{state: ovsdb.State{Err: ovsdb.ErrNotTried}})
	runs(t, m)
	if got, err := appctl(t, m, "tunnels/show"); err == nil || !strings.Contains(err.Error(), "not tried yet") {
		t.Errorf("tunnels/show: %q, %v", got, err)
	}
	if got, err := appctl(t, m, "ipsec/status"); err != nil || got != "{}\n" {
		t.Errorf("ipsec/status: %q, %v", got, err)
	}
	if got, err := appctl(t, m, "refresh"); err == nil || !strings.Contains(err.Error(), "it goes on") {
		t.Errorf("refresh: %q, %v", got, err)
	}
}

// TestMonitorSocketComesBack: it waits for the place, and takes it again when
// somebody removed its files.
func TestMonitorSocketComesBack(t *testing.T) {
	m := socketOf(t, oneTunnel())
	dir := filepath.Dir(m.place.PIDFile())
	f, err := holdPIDFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.once(t.Context()); err == nil || !strings.Contains(err.Error(), "process 4711 holds "+f.Name()) {
		t.Errorf("beside another: %v", err)
	}
	f.Close()
	runs(t, m)
	for _, name := range []string{monitorName + ".pid", fmt.Sprintf("%s.%d.ctl", monitorName, os.Getpid())} {
		// The place may be between its loss and its return for a moment.
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		placed(t, m)
		if got, err := appctl(t, m, "ipsec/status"); err != nil || got != "{}\n" {
			t.Errorf("after the loss of %s: %q, %v", name, got, err)
		}
	}
}

func TestCertName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cert.pem")
	c := newCertNames()
	if got := c.of(""); got != "" {
		t.Errorf("no path: %q", got)
	}
	if got := c.of(path); got != "" {
		t.Errorf("no file: %q", got)
	}
	write := func(text []byte, at time.Time) {
		if err := errors.Join(os.WriteFile(path, text, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	first := time.Unix(1000, 0)
	write(certificate(t, "hv1"), first)
	if got := c.of(path); got != "hv1" {
		t.Errorf("first: %q", got)
	}
	write(certificate(t, "hv2"), first.Add(time.Second))
	if got := c.of(path); got != "hv2" {
		t.Errorf("another at the same path: %q", got)
	}
	write([]byte("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"), first)
	if got := c.of(path); got != "" {
		t.Errorf("nonsense: %q", got)
	}
	write([]byte("nothing"), first)
	if got := c.of(path); got != "" {
		t.Errorf("no PEM: %q", got)
	}
}

// certificate returns a self-signed one with its key in front.
func certificate(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	front := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	return append(front, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}

// BenchmarkMonitorSocket is the time from the question to the end of the answer.
func BenchmarkMonitorSocket(b *testing.B) {
	local, on := netip.AddrFrom4([4]byte{10, 0, 0, 1}), xfrm.Offload{Ifindex: 4, Packet: true}
	for _, n := range []int{400, 10000} {
		w := &watched{state: ovsdb.State{Known: true}}
		for i := range n {
			name, remote := fmt.Sprintf("ovn-%06d-0", i), netip.AddrFrom4([4]byte{10, byte(1 + i/250), byte(i % 250), 2})
			w.snapshot.Tunnels = append(w.snapshot.Tunnels, ovsdb.Tunnel{Name: name, Type: "vxlan", Local: local, Remote: remote,
				DstPort: 4789, IPsec: true, Mode: ovsdb.Transport, Keys: "hv1-" + name})
			w.seen.Status.Ports = append(w.seen.Status.Ports, plugin.PortStatus{Name: name, State: plugin.StateEncrypted})
			w.seen.Status.Pairs = append(w.seen.Status.Pairs, plugin.PairStatus{Local: "10.0.0.1", Remote: remote.String(), Port: 4789, State: plugin.StateEncrypted,
				PF: "pf0", Ports: []string{name}, SPIIn: "0x01020304", SPIOut: "0x05060708"})
			for dir, e := range [][2]netip.Addr{{remote, local}, {local, remote}} {
				w.seen.SAs = append(w.seen.SAs, xfrm.SA{Src: e[0], Dst: e[1], SPI: uint32(i), Reqid: uint32(i), Dir: xfrm.Dir(dir), ESN: true, Offload: on})
				w.seen.Policies = append(w.seen.Policies, xfrm.Policy{Dir: xfrm.Dir(dir), Tmpl: &xfrm.Template{Reqid: uint32(i)}, Offload: on,
					Sel: xfrm.Selector{Src: netip.PrefixFrom(e[0], 32), Dst: netip.PrefixFrom(e[1], 32), Proto: 17, DstPort: 4789}})
			}
		}
		m := socketOf(b, w)
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); m.run(ctx) }()
		placed(b, m)
		for _, ask := range []string{"tunnels/show", "ipsec/status", "xfrm/policies", "xfrm/state"} {
			b.Run(fmt.Sprintf("%s/%d", ask, n), func(b *testing.B) {
				for b.Loop() {
					c := dial(b, m)
					fmt.Fprintf(c, `{"id":0,"method":%q,"params":[]}`, ask)
					length, err := answerLength(c)
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(int64(length))
					c.Close()
				}
			})
		}
		cancel()
		<-ended
	}
}

// answerLength reads an answer, which ends with the only newline in it.
func answerLength(r io.Reader) (n int, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		part, err := in.ReadSlice('\n')
		n += len(part)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return n, err
		}
	}
}
