// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
)

var (
	host       = ovsdb.PKI{Certificate: "/c", PrivateKey: "/k", CACert: "/ca"}
	certRef    = Ref{Certificate, "/c"}
	keyRef     = Ref{PrivateKey, "/k"}
	caRef      = Ref{CACert, "/ca"}
	remoteRef  = Ref{RemoteCert, "/r"}
	pskRef     = Ref{PSKFile, "/p"}
	selfSigned = ovsdb.Auth{Method: ovsdb.MethodSelfSigned, RemoteCert: "/r"}
	byCA       = ovsdb.Auth{Method: ovsdb.MethodCA, RemoteName: "hv2"}
	byPSKFile  = ovsdb.Auth{Method: ovsdb.MethodPSK, PSKFile: "/p"}
)

func TestCredentials(t *testing.T) {
	ca, own, peer := issue(t, spec{cn: "CA", ca: true}), issue(t, spec{cn: "hv1"}), issue(t, spec{cn: "hv2", kind: "Ed25519"})
	between := issue(t, spec{cn: "between", ca: true, by: ca})
	bare := issue(t, spec{cn: "hv2", noSAN: true})
	read := map[Ref][]byte{
		certRef: slices.Concat(own.cert, between.cert), keyRef: own.key, caRef: slices.Concat(ca.cert, between.cert),
		remoteRef: peer.cert, pskRef: []byte("swordfish\n"), {RemoteCert, "/bare"}: bare.cert,
	}
	chain := slices.Concat(own.cert, between.cert)
	key := ike.NewSecret(own.key)
	for _, tc := range []struct {
		name string
		auth ovsdb.Auth
		want ike.Auth
	}{
		{"psk", ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret("swordfish")}, ike.Auth{PSK: ike.NewSecret([]byte("swordfish"))}},
		{"psk_file", byPSKFile, ike.Auth{PSK: ike.NewSecret([]byte("swordfish"))}},
		{"self-signed", selfSigned, ike.Auth{LocalID: "fqdn:hv1", RemoteID: "fqdn:hv2", Cert: chain, Key: key, RemoteCert: peer.cert}},
		{"self-signed, no subjectAltName", ovsdb.Auth{Method: ovsdb.MethodSelfSigned, RemoteCert: "/bare"},
			ike.Auth{LocalID: "fqdn:hv1", RemoteID: "asn1dn:#" + hex.EncodeToString(bare.x.RawSubject), Cert: chain, Key: key, RemoteCert: bare.cert}},
		{"CA", byCA, ike.Auth{LocalID: "fqdn:hv1", RemoteID: "fqdn:hv2", Cert: chain, Key: key, CA: slices.Concat(ca.cert, between.cert)}},
	} {
		got, p := Credentials(tc.auth, host, files(read), testTime)
		if diff := cmp.Diff(tc.want, got); p != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tc.name, p, diff)
		}
	}
}

func TestCredentialsRefused(t *testing.T) {
	ca, own, peer := issue(t, spec{cn: "CA", ca: true}), issue(t, spec{cn: "hv1"}), issue(t, spec{cn: "hv2"})
	before, after := testTime.Add(-time.Hour), testTime.Add(time.Hour)
	old := func(cn string) *issued { return issue(t, spec{cn: cn, from: before.AddDate(-1, 0, 0), to: before}) }
	early := func(cn string) *issued { return issue(t, spec{cn: cn, from: after, to: after.AddDate(1, 0, 0)}) }
	bare, oldHost, earlyHost := issue(t, spec{cn: "hv1", noSAN: true}), old("hv1"), early("hv1")
	good := map[Ref][]byte{certRef: own.cert, keyRef: own.key, caRef: ca.cert, remoteRef: peer.cert, pskRef: []byte("swordfish")}
	named := selfSigned
	named.RemoteName = "hv3"
	for _, tc := range []struct {
		name string
		auth ovsdb.Auth
		with map[Ref][]byte
		code string
	}{
		{"good", byCA, nil, ""},
		{"another's key", byCA, map[Ref][]byte{keyRef: peer.key}, CodeKeyMismatch},
		{"another's key, self-signed", selfSigned, map[Ref][]byte{keyRef: peer.key}, CodeKeyMismatch},
		{"own expired", byCA, map[Ref][]byte{certRef: oldHost.cert, keyRef: oldHost.key}, CodeExpired},
		{"own too early", selfSigned, map[Ref][]byte{certRef: earlyHost.cert, keyRef: earlyHost.key}, CodeNotYet},
		{"peer's expired", selfSigned, map[Ref][]byte{remoteRef: old("hv2").cert}, CodeExpired},
		{"peer's too early", selfSigned, map[Ref][]byte{remoteRef: early("hv2").cert}, CodeNotYet},
		{"CA expired", byCA, map[Ref][]byte{caRef: old("CA").cert}, CodeExpired},
		{"one CA expired", byCA, map[Ref][]byte{caRef: slices.Concat(old("CA").cert, ca.cert)}, ""},
		{"own without subjectAltName", byCA, map[Ref][]byte{certRef: bare.cert, keyRef: bare.key}, CodeName},
		{"own without subjectAltName, self-signed", selfSigned, map[Ref][]byte{certRef: bare.cert, keyRef: bare.key}, ""},
		{"own as the peer's", selfSigned, map[Ref][]byte{remoteRef: own.cert}, CodeOwn},
		{"another name", named, nil, CodeRemoteName},
		{"certificate unreadable", byCA, map[Ref][]byte{certRef: []byte("x")}, CodeFormat},
		{"psk empty", byPSKFile, map[Ref][]byte{pskRef: {}}, CodePSK},
		{"psk beside broken certificates", byPSKFile, map[Ref][]byte{certRef: []byte("x")}, ""},
		{"CA empty", byCA, map[Ref][]byte{caRef: nil}, CodeFormat},
	} {
		read := maps.Clone(good)
		maps.Copy(read, tc.with)
		got, p := Credentials(tc.auth, host, files(read), testTime)
		if code(p) != tc.code || (p != nil) != got.Equal(ike.Auth{}) {
			t.Errorf("%s: %v, want %q", tc.name, p, tc.code)
		}
	}
	if _, p := Credentials(byCA, host, Files{}, testTime); code(p) != CodeMissing {
		t.Errorf("nothing read: %v", p)
	}
	if _, p := Credentials(ovsdb.Auth{}, host, Files{}, testTime); p == nil {
		t.Error("credentials for a tunnel that asks for none")
	}
}

// TestNothingIsTold: what is secret shows nowhere.
func TestNothingIsTold(t *testing.T) {
	own := issue(t, spec{cn: "hv1"})
	read := files(map[Ref][]byte{certRef: own.cert, keyRef: own.key, remoteRef: issue(t, spec{cn: "hv2"}).cert, pskRef: []byte("swordfish")})
	var shown strings.Builder
	for _, auth := range []ovsdb.Auth{selfSigned, byPSKFile} {
		got, p := Credentials(auth, host, read, testTime)
		j, err := json.Marshal(got)
		must(t, err)
		fmt.Fprintf(&shown, "%+v %#v %v %s\n", got, got, p, j)
	}
	fmt.Fprintf(&shown, "%+v %#v", read, read)
	line := strings.Split(string(own.key), "\n")[1]
	for _, secret := range []string{"swordfish", line, fmt.Sprintf("%x", line), fmt.Sprint([]byte(line))} {
		if strings.Contains(shown.String(), strings.Trim(secret, "[]")) {
			t.Errorf("shown: %s", secret)
		}
	}
}

func TestRefs(t *testing.T) {
	psk := ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret("s")}
	tunnels := []ovsdb.Tunnel{
		{IPsec: true, Auth: byCA}, {IPsec: true, Auth: byCA}, {IPsec: true, Auth: selfSigned}, {IPsec: true, Auth: byPSKFile},
		{IPsec: true, Auth: psk}, {IPsec: true}, {Auth: ovsdb.Auth{Method: ovsdb.MethodPSK, PSKFile: "/plain"}},
	}
	got := AllRefs(tunnels, host)
	if diff := cmp.Diff([]Ref{caRef, certRef, keyRef, pskRef, remoteRef}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/c", "/ca", "/k", "/p", "/r"}, Paths(append(got, got...))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
