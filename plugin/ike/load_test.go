// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/plugin/ike/vici"
)

var update = flag.Bool("update", false, "write the golden files anew")

// show writes a message as strongSwan's documents do.
func show(m vici.Message, indent string) string {
	var b strings.Builder
	for _, e := range m {
		switch e.Kind {
		case vici.IsSection:
			fmt.Fprintf(&b, "%s%s {\n%s%s}\n", indent, e.Name, show(e.Section, indent+"\t"), indent)
		case vici.IsList:
			fmt.Fprintf(&b, "%s%s = [%s]\n", indent, e.Name, bytes.Join(e.List, []byte(", ")))
		default:
			fmt.Fprintf(&b, "%s%s = %s\n", indent, e.Name, e.Value)
		}
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", file, diff)
	}
}

func TestMessages(t *testing.T) {
	o := Options{}.WithDefaults()
	plain := testConn(true)
	six := plain
	six.Local, six.Remote = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	six.Port, six.Own = 4790, Own{RekeyTime: 5 * time.Minute, ReplayWindow: 64}
	stock := plain
	stock.Stock = true
	pinned := plain
	pinned.Auth = Auth{Cert: []byte("certificate"), RemoteCert: []byte("peer's certificate"), Key: NewSecret([]byte("key"))}
	ca := plain
	ca.Auth = Auth{Cert: []byte("certificate"), CA: []byte("authority"), RemoteID: "hv2", Key: NewSecret([]byte("key"))}
	one := plain
	one.OneChild, one.ReqidIn = true, one.ReqidOut
	led := one
	led.Lead = false
	soft := o
	soft.NoOffload, soft.LifeTime = true, 2*time.Hour
	for name, m := range map[string]vici.Message{
		"load-conn-psk":          loadConn(plain, o),
		"load-conn-other-port":   loadConn(six, o),
		"load-conn-stock":        loadConn(stock, o),
		"load-conn-one-child":    loadConn(one, o),
		"load-conn-one-led":      loadConn(led, o),
		"load-conn-remote-cert":  loadConn(pinned, o),
		"load-conn-ca":           loadConn(ca, o),
		"load-conn-no-offload":   loadConn(plain, soft),
		"load-shared":            loadShared(plain),
		"load-shared-other-port": loadShared(six),
		"load-key":               loadKey(pinned.Auth.Key),
		"initiate":               initiate("oio-1", Out),
		"rekey":                  childID(7),
		"terminate-ike":          terminateIKE(7),
		"terminate-child":        terminateChild(7),
		"unload-conn":            named("oio-1"),
		"unload-shared":          byID("oio-1"),
	} {
		golden(t, name, show(m, ""))
	}
}

// certificate returns a self-signed one in PEM.
func certificate(t *testing.T, cn string, dns ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, DNSNames: dns}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestIdentities(t *testing.T) {
	named, unnamed := certificate(t, "hv1", "hv1"), certificate(t, "hv2")
	port := testConn(true)
	port.Port = 4790
	given := testConn(true)
	given.Auth.LocalID, given.Auth.RemoteID = "here", "there"
	cert := testConn(true)
	cert.Auth = Auth{Cert: named, RemoteCert: unnamed}
	for name, tt := range map[string]struct {
		c             Conn
		local, remote string
	}{
		"psk":                     {testConn(true), "10.0.0.1", "10.0.0.2"},
		"psk, another port":       {port, "udp4790@10.0.0.1", "udp4790@10.0.0.2"},
		"given":                   {given, "here", "there"},
		"certificate's DNS name":  {cert, "hv1", ""},
		"nothing that is a cert":  {Conn{Auth: Auth{Cert: []byte("x")}}, "", ""},
		"nothing within the cert": {Conn{Auth: Auth{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})}}, "", ""},
	} {
		if tt.c.localID() != tt.local || tt.c.remoteID() != tt.remote {
			t.Errorf("%s: %q and %q, want %q and %q", name, tt.c.localID(), tt.c.remoteID(), tt.local, tt.remote)
		}
	}
}

func TestCertificatesGoAsDER(t *testing.T) {
	one, two := certificate(t, "a"), certificate(t, "b")
	got := blocks(append(append([]byte("text\n"), one...), two...))
	if len(got) != 2 {
		t.Fatalf("%d certificates, want 2", len(got))
	}
	for i, der := range got {
		if c, err := x509.ParseCertificate(der); err != nil || c.Subject.CommonName != []string{"a", "b"}[i] {
			t.Errorf("certificate %d: %v", i, err)
		}
	}
	if got := blocks([]byte("no PEM")); len(got) != 1 || string(got[0]) != "no PEM" {
		t.Errorf("what is no PEM became %q", got)
	}
}

func TestMarkDiffersForAnotherAuth(t *testing.T) {
	base := Auth{PSK: NewSecret([]byte("a"))}
	seen := map[time.Duration]Auth{mark(base): base}
	for _, a := range []Auth{{PSK: NewSecret([]byte("b"))}, {Cert: []byte("a")}, {CA: []byte("a")}, {Key: NewSecret([]byte("a"))}, {LocalID: "a"}, {RemoteID: "a"}} {
		if old, taken := seen[mark(a)]; taken {
			t.Errorf("%+v has the mark of %+v", a, old)
		}
		seen[mark(a)] = a
	}
	if mark(base) != mark(Auth{PSK: NewSecret([]byte("a"))}) {
		t.Error("the mark of one Auth changes")
	}
}

func TestOptions(t *testing.T) {
	o := Options{RekeyTime: time.Minute, LifeTime: time.Minute}.WithDefaults()
	if o.LifeTime != 2*time.Minute || o.RandTime != 10*time.Second {
		t.Errorf("rekey after %v less %v, end after %v", o.RekeyTime, o.RandTime, o.LifeTime)
	}
	if d := backoff(40, time.Second, 30*time.Second, 1); d != 30*time.Second {
		t.Errorf("the 40th wait is %v", d)
	}
	if d := backoff(1, time.Second, 30*time.Second, 0); d != time.Second {
		t.Errorf("the second wait is at least %v", d)
	}
}

func TestOffsetDiffersForMostConns(t *testing.T) {
	const n, most = 400, 15 * time.Minute
	seen := map[time.Duration]bool{}
	for i := range n {
		o := offset(peerConn(i).Name, most)
		if o < 0 || o >= most {
			t.Fatalf("offset %v", o)
		}
		seen[o] = true
	}
	if len(seen) < n/2 { // 323 when this was written
		t.Errorf("%d different offsets", len(seen))
	}
}
