// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
)

// kept is a Keeper with a host whose files lie in dir.
type kept struct {
	*Keeper
	t       *testing.T
	dir     string
	changed chan struct{}
	snap    ovsdb.Snapshot
	now     time.Time
}

func keep(t *testing.T) *kept {
	k := &kept{t: t, dir: t.TempDir(), changed: make(chan struct{}, 1), now: testTime}
	k.Keeper = NewKeeper(NewStore(Host{}, os.Geteuid()), func() time.Time { return k.now }, func() {
		select {
		case k.changed <- struct{}{}:
		default:
		}
	})
	k.snap.Host.PKI = ovsdb.PKI{Certificate: k.path("cert"), PrivateKey: k.path("key"), CACert: k.path("ca")}
	return k
}

func (k *kept) path(name string) string { return filepath.Join(k.dir, name) }

func (k *kept) install(name string, text []byte) { write(k.t, k.path(name), string(text), 0o600) }

// expect compares a port's result: its CN as identity, and codes.
func (k *kept) expect(what, port string, want func(Result) bool, codes ...string) {
	k.t.Helper()
	results, notes := k.Auths(&k.snap)
	r, is := results[port]
	var got []string
	for _, p := range slices.Concat(r.Notes, notes) {
		got = append(got, p.Code)
	}
	if r.Problem != nil {
		got = append(got, r.Problem.Code)
	}
	if !is || !want(r) || !slices.Equal(got, codes) {
		k.t.Errorf("%s: %+v, codes %v; want %v", what, r, got, codes)
	}
}

func serves(i *issued) func(Result) bool {
	return func(r Result) bool {
		return r.Auth.Key.Equal(ike.NewSecret(i.key)) && slices.Equal(r.Auth.Cert, i.cert)
	}
}

func refused(r Result) bool { return r.Auth.Equal(ike.Auth{}) }

// TestKeeper exchanges a host's certificate while a tunnel uses it, and lets it
// expire, and does what else happens in a year.
func TestKeeper(t *testing.T) {
	k := keep(t)
	ca := issue(t, spec{cn: "CA", ca: true, from: testTime.AddDate(-5, 0, 0), to: testTime.AddDate(5, 0, 0)})
	first, second := issue(t, spec{cn: "hv1", by: ca}), issue(t, spec{cn: "hv1", by: ca, kind: "RSA"})
	k.snap.Tunnels = []ovsdb.Tunnel{
		{Name: "plain"},
		{Name: "psk", IPsec: true, Auth: ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret("swordfish")}},
		{Name: "invalid", IPsec: true, Auth: byCA, Problems: []ovsdb.Problem{{Code: "OPT_MODE"}}},
		{Name: "ca", IPsec: true, Auth: byCA},
	}
	k.expect("before there are files", "ca", refused, CodeMissing)
	k.expect("a psk needs none", "psk", func(r Result) bool { return !r.Auth.PSK.Empty() }, CodePSKInOVSDB)
	k.install("ca", ca.cert)
	k.install("cert", first.cert)
	k.install("key", first.key)
	k.expect("all there", "ca", serves(first))
	if results, _ := k.Auths(&k.snap); len(results) != 2 {
		t.Errorf("%d results, want those of the ports that can have any", len(results))
	}
	k.install("cert", second.cert)
	k.expect("the new certificate, but not its key", "ca", serves(first), CodeStale)
	k.install("key", second.key)
	k.expect("both", "ca", serves(second))
	k.now = second.x.NotAfter.Add(-time.Hour)
	k.expect("it expires soon", "ca", serves(second), CodeExpires)
	k.now = second.x.NotAfter.Add(time.Hour)
	k.expect("it has expired", "ca", serves(second), CodeStale)
	k.snap.Tunnels[3].Auth.RemoteName = "hv3"
	k.expect("a new port cannot use it", "ca", refused, CodeExpired)
}

func TestKeeperTellsOfChanges(t *testing.T) {
	k := keep(t)
	k.snap.Tunnels = []ovsdb.Tunnel{{Name: "psk", IPsec: true, Auth: ovsdb.Auth{Method: ovsdb.MethodPSK, PSKFile: k.path("psk")}}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	holds := func(want string) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for {
			if r, _ := k.Auths(&k.snap); string(r["psk"].Auth.PSK.Bytes()) == want {
				return
			}
			select {
			case <-k.changed:
			case <-limit:
				t.Fatalf("not told of %q", want)
			}
		}
	}
	holds("")
	k.install("psk", []byte("one\n"))
	holds("one")
	k.install("psk", []byte("two\n"))
	holds("two")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
