// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ovs-ipsec-offload/plugin/ike"
)

var update = flag.Bool("update", false, "write what is rendered into testdata")

func testConn() ike.Conn {
	return ike.Conn{Name: "oio-0123456789abcdef", Local: netip.MustParseAddr("10.0.0.1"), Remote: netip.MustParseAddr("10.0.0.2"), Port: 4789,
		Auth: ike.Auth{PSK: ike.NewSecret([]byte("sword\"fish"))}, ReqidOut: 101, ReqidIn: 102, Lead: true}
}

func TestRender(t *testing.T) {
	v6, stock := testConn(), testConn()
	v6.Local, v6.Remote, v6.Port = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), 4790
	v6.Own = ike.Own{RekeyTime: 10 * time.Second, IKERekeyTime: time.Hour, DPDDelay: 3 * time.Second, ReplayWindow: 64}
	stock.Stock = true
	o := Config{}.withDefaults().Options
	for name, c := range map[string]ike.Conn{"plain": testConn(), "ipv6": v6, "stock": stock} {
		for _, child := range []string{ike.Out, ike.In} {
			golden(t, name+"-"+child+".conf", render(c, child, o, "/sbin/ovs-ipsec-offload updown"))
		}
	}
	golden(t, "secrets", string(secrets([]ike.Conn{testConn(), v6})))
}

func golden(t *testing.T, name, got string) {
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s: %v; rendered:\n%s", name, err, got)
	}
}

func TestNoSecretInConfiguration(t *testing.T) {
	for _, child := range []string{ike.Out, ike.In} {
		if text := render(testConn(), child, Config{}.withDefaults().Options, "x"); strings.Contains(text, "sword") {
			t.Error("a secret stands in the configuration")
		}
	}
}

func TestUnable(t *testing.T) {
	c := testConn()
	if unable(c) != nil {
		t.Error("psk is refused")
	}
	c.Auth = ike.Auth{CA: []byte("x"), RemoteID: "hv2"}
	if p := unable(c); p == nil || p.Code != CodeKind {
		t.Errorf("certificates: %v", p)
	}
}
