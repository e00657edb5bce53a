// SPDX-License-Identifier: Apache-2.0

//go:build lab

// This test needs root, strongSwan and the simulated NIC:
// go test -tags lab -exec lab/exec ./plugin/ike

package ike

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// charonConf is what a charon of the lab reads; no two of them share a file.
const charonConf = `
charon-systemd {
	load = random nonce x509 constraints pubkey pkcs1 pkcs8 pem openssl gcm drbg kernel-netlink socket-default vici
	install_routes = no
	retransmit_timeout = 1
	retransmit_tries = 3
	plugins { vici { socket = unix://%[1]s/charon.vici } }
	journal { default = -1 }
	filelog { f { path = %[1]s/log
		default = 1
		flush_line = yes
		append = yes } }
}
`

// hypervisor is a network namespace with a PF, a charon and a Runner.
type hypervisor struct {
	t      *testing.T
	n      int
	dir    string
	charon *exec.Cmd
	runner *Runner
	log    *bytes.Buffer
	end    func()
}

// twoHypervisors makes two namespaces whose PFs are on one wire.
func twoHypervisors(t *testing.T, o Options) [2]*hypervisor {
	t.Helper()
	sh(t, `ip netns add ike1; ip netns add ike2
		ip link add wire0 netns ike1 mtu 9000 type veth peer name wire0 netns ike2`)
	t.Cleanup(func() { sh(t, "ip netns del ike1; ip netns del ike2") })
	var hv [2]*hypervisor
	for i := range hv {
		n := i + 1
		sh(t, fmt.Sprintf(`ip -n ike%[1]d link set lo up; ip -n ike%[1]d link set wire0 up
			ip -n ike%[1]d link add link wire0 name pf0 type simpf
			ip -n ike%[1]d link set pf0 up
			ip -n ike%[1]d addr add 10.0.0.%[1]d/24 dev pf0
			ip -n ike%[1]d addr add fd00::%[1]d/64 dev pf0 nodad`, n))
		hv[i] = newHypervisor(t, n, o)
	}
	return hv
}

func newHypervisor(t *testing.T, n int, o Options) *hypervisor {
	h := &hypervisor{t: t, n: n, dir: t.TempDir(), log: &bytes.Buffer{}}
	if err := os.WriteFile(filepath.Join(h.dir, "strongswan.conf"), fmt.Appendf(nil, charonConf, h.dir), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.run(o)
	t.Cleanup(func() {
		h.end()
		h.kill()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(h.dir, "log"))
			t.Logf("runner %d:\n%s\ncharon %d:\n%s", n, h.log, n, log)
		}
	})
	return h
}

// run starts a Runner, which end ends.
func (h *hypervisor) run(o Options) {
	h.runner = New(Config{
		Socket:  filepath.Join(h.dir, "charon.vici"),
		Log:     slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Options: o,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.runner.Run(ctx)
	}()
	h.end = func() {
		cancel()
		<-ended
	}
}

// start starts charon; the Runner finds it by itself.
func (h *hypervisor) start() {
	h.t.Helper()
	h.charon = exec.Command("ip", "netns", "exec", fmt.Sprintf("ike%d", h.n), "/usr/sbin/charon-systemd")
	h.charon.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(h.dir, "strongswan.conf"))
	if err := h.charon.Start(); err != nil {
		h.t.Fatal(err)
	}
}

// kill ends charon without a chance to clean up.
func (h *hypervisor) kill() {
	_ = h.charon.Process.Kill()
	_ = h.charon.Wait()
}

// conn returns the Conn with the other hypervisor, over IPv4 or IPv6.
func (h *hypervisor) conn(v int, psk string) Conn {
	here, there := fmt.Sprintf("10.0.0.%d", h.n), fmt.Sprintf("10.0.0.%d", 3-h.n)
	if v == 6 {
		here, there = fmt.Sprintf("fd00::%d", h.n), fmt.Sprintf("fd00::%d", 3-h.n)
	}
	return Conn{
		Name:  fmt.Sprintf("%sv%d", Prefix, v),
		Local: netip.MustParseAddr(here), Remote: netip.MustParseAddr(there), Port: 4789,
		Auth:     Auth{PSK: NewSecret([]byte(psk))},
		ReqidOut: 0x1a00 + uint32(v), ReqidIn: 0x1b00 + uint32(v),
		Lead: h.n == 1,
	}
}

// until waits for a Conn's state.
func (h *hypervisor) until(name, what string, is func(ConnState) bool) ConnState {
	h.t.Helper()
	for end := time.Now().Add(40 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s := h.runner.State()
		if c := s.Conns[name]; is(c) {
			return c
		} else if time.Now().After(end) {
			h.t.Fatalf("hypervisor %d: %s is not %s: %+v; problem %v", h.n, name, what, c, s.Problem)
		}
	}
}

// up waits until a Conn is up with one child each and no problem.
func (h *hypervisor) up(name string) ConnState {
	h.t.Helper()
	return h.until(name, "up", func(c ConnState) bool { return c.Phase == Up && len(c.Children) == 2 && c.Problem == nil })
}

// offloaded returns the SPIs of the SAs in the NIC.
func (h *hypervisor) offloaded() []string {
	h.t.Helper()
	out := sh(h.t, fmt.Sprintf("ip -n ike%d xfrm state", h.n))
	var spis []string
	for _, sa := range strings.Split(out, "\nsrc ") {
		if strings.Contains(sa, "crypto offload parameters: dev pf0") && strings.Contains(sa, "mode packet") {
			spis = append(spis, regexp.MustCompile(`spi 0x([0-9a-f]+)`).FindStringSubmatch(sa)[1])
		}
	}
	slices.Sort(spis)
	return spis
}

func spisOf(states ...ConnState) []string {
	var spis []string
	for _, s := range states {
		for _, c := range s.Children {
			spis = append(spis, fmt.Sprintf("%08x", c.SPIIn), fmt.Sprintf("%08x", c.SPIOut))
		}
	}
	slices.Sort(spis)
	return spis
}

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// issue returns a certificate and its key, signed by itself or by a CA.
func issue(t *testing.T, cn string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: cn}, DNSNames: []string{cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if cn == "ca" {
		c.IsCA, c.BasicConstraintsValid, c.DNSNames = true, true, nil
		c.KeyUsage = x509.KeyUsageCertSign
	}
	parent, signer := c, key
	if ca != nil {
		parent, signer = ca, caKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) Secret {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return NewSecret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestCharonCertificates(t *testing.T) {
	hv := twoHypervisors(t, Options{TakeOver: 3 * time.Second, Audit: 5 * time.Second})
	ca, caKey := issue(t, "ca", nil, nil)
	self, signed := [2]Auth{}, [2]Auth{}
	for i := range hv {
		c, key := issue(t, fmt.Sprintf("hv%d", i+1), ca, caKey)
		signed[i] = Auth{Cert: certPEM(c), Key: keyPEM(t, key), CA: certPEM(ca), RemoteID: fmt.Sprintf("hv%d", 2-i)}
	}
	for i := range self {
		c, key := issue(t, fmt.Sprintf("self%d", i+1), nil, nil)
		self[i].Cert, self[i].Key = certPEM(c), keyPEM(t, key)
		self[1-i].RemoteCert = certPEM(c)
	}
	want := func() {
		for i, h := range hv {
			four, six := h.conn(4, ""), h.conn(6, "")
			four.Auth, six.Auth = self[i], signed[i]
			h.runner.Want([]Conn{four, six})
		}
	}
	want()
	var old [2]ConnState
	for i, h := range hv {
		h.up("oio-v4")
		old[i] = h.up("oio-v6")
	}
	t.Log("up with self-signed certificates over IPv4, with a CA over IPv6")

	c, key := issue(t, "hv1", ca, caKey)
	signed[0].Cert, signed[0].Key = certPEM(c), keyPEM(t, key)
	want()
	for i, h := range hv {
		h.until("oio-v6", "re-authenticated", func(c ConnState) bool {
			return c.Phase == Up && len(c.Children) == 2 && !cmp.Equal(spisOf(c), spisOf(old[i]))
		})
	}
	t.Log("re-authenticated with a renewed certificate")

	c, key = issue(t, "somebody", ca, caKey)
	signed[0].Cert, signed[0].Key = certPEM(c), keyPEM(t, key)
	want()
	hv[0].until("oio-v6", "refused", func(c ConnState) bool { return c.Problem != nil && c.Problem.Code == CodeAuth })
	if s := hv[1].up("oio-v6"); len(s.Children) != 2 {
		t.Errorf("after a certificate that the peer refuses: %+v, want the SAs that there were", s)
	}
}

func TestCharon(t *testing.T) {
	hv := twoHypervisors(t, Options{TakeOver: 3 * time.Second, Audit: 5 * time.Second})
	a, b := hv[0], hv[1]
	want := func(psk string, versions ...int) {
		for _, h := range hv {
			var cs []Conn
			for _, v := range versions {
				cs = append(cs, h.conn(v, psk))
			}
			h.runner.Want(cs)
		}
	}
	both := func(name string) (ConnState, ConnState) { return a.up(name), b.up(name) }

	want("swordfish", 4)
	a4, b4 := both("oio-v4")
	if got := spisOf(a4); !cmp.Equal(got, a.offloaded()) || !cmp.Equal(got, spisOf(b4)) || !cmp.Equal(got, b.offloaded()) {
		t.Fatalf("SPIs: hypervisor 1 %v, its NIC %v, hypervisor 2 %v, its NIC %v", got, a.offloaded(), spisOf(b4), b.offloaded())
	}
	for _, c := range a4.Children {
		if !c.ESN || c.RekeyIn == 0 != (c.Name == In) {
			t.Errorf("child %+v: want ESN, and a rekey of the outbound one alone", c)
		}
	}
	t.Log("up over IPv4, four SAs in each NIC")

	want("swordfish", 4, 6)
	a6, b6 := both("oio-v6")
	if now := a.up("oio-v4"); a4.news(now) {
		t.Errorf("the first tunnel changed when another was added: %+v, was %+v", now, a4)
	}
	if diff := cmp.Diff(spisOf(a4, a6), b.offloaded()); diff != "" {
		t.Errorf("NIC of hypervisor 2 (-want +got):\n%s", diff)
	}
	t.Log("up over IPv6, the first untouched")

	out := func(s ConnState) uint32 {
		return s.Children[slices.IndexFunc(s.Children, func(c Child) bool { return c.Name == Out })].SPIOut
	}
	b.runner.Rekey("oio-v6")
	b.until("oio-v6", "rekeyed", func(c ConnState) bool {
		return c.Phase == Up && len(c.Children) == 2 && out(c) != out(b6)
	})
	a6, _ = both("oio-v6")
	t.Log("rekeyed by the sender when asked")

	a.kill()
	a.until("oio-v4", "down", func(c ConnState) bool { return c.Phase == Loading })
	if p := a.runner.State().Problem; p == nil || p.Code != CodeDown {
		t.Errorf("problem %v, want %s", p, CodeDown)
	}
	began := time.Now()
	a.start()
	for _, name := range []string{"oio-v4", "oio-v6"} {
		now, _ := both(name)
		if old := map[string]ConnState{"oio-v4": a4, "oio-v6": a6}[name]; slices.ContainsFunc(spisOf(now), func(s string) bool { return slices.Contains(spisOf(old), s) }) {
			t.Errorf("%s has an SPI of the daemon that was killed", name)
		}
	}
	t.Logf("back %v after the daemon was started again", time.Since(began).Round(100*time.Millisecond))

	a4, _ = both("oio-v4")
	b.runner.Want([]Conn{b.conn(4, "changed"), b.conn(6, "changed")})
	b.until("oio-v4", "refused", func(c ConnState) bool { return c.Problem != nil && c.Problem.Code == CodeAuth })
	if now := a.runner.State().Conns["oio-v4"]; now.Phase != Up || !cmp.Equal(spisOf(now), spisOf(a4)) {
		t.Errorf("while only one end has the new psk: %+v, want the SAs that there were", now)
	}
	a.runner.Want([]Conn{a.conn(4, "changed"), a.conn(6, "changed")})
	for _, name := range []string{"oio-v4", "oio-v6"} {
		old := map[string]ConnState{"oio-v4": a4, "oio-v6": a6}[name]
		a.until(name, "re-authenticated", func(c ConnState) bool {
			return c.Phase == Up && len(c.Children) == 2 && !cmp.Equal(spisOf(c), spisOf(old)) && c.Problem == nil
		})
		both(name)
	}
	t.Log("re-authenticated after a change of the psk")

	want("changed", 4)
	a.until("oio-v6", "gone", func(c ConnState) bool { return c.Phase == "" })
	b.until("oio-v6", "gone", func(c ConnState) bool { return c.Phase == "" })
	a4, _ = both("oio-v4")
	for end := time.Now().Add(20 * time.Second); !cmp.Equal(spisOf(a4), b.offloaded()); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("NIC of hypervisor 2 holds %v, want %v", b.offloaded(), spisOf(a4))
		}
	}
	b4 = b.up("oio-v4")
	b.end()
	b.run(Options{})
	b.runner.Want([]Conn{b.conn(4, "changed")})
	if now := b.up("oio-v4"); !cmp.Equal(spisOf(now), spisOf(b4)) {
		t.Errorf("after a restart of the Runner: %+v, was %+v", now, b4)
	}
	t.Log("a new Runner finds everything as it was")

	for _, h := range hv {
		if strings.Contains(h.log.String(), "swordfish") || strings.Contains(h.log.String(), "changed\"") {
			t.Error("a psk is in the log")
		}
	}
}
