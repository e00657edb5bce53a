// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCert(t *testing.T) {
	for _, kind := range []string{"RSA", "ECDSA", "Ed25519"} {
		i := issue(t, spec{cn: "hv1", dns: []string{"hv1", "hv1.example"}, kind: kind})
		for _, text := range [][]byte{i.cert, slices.Concat([]byte("Certificate:\n    Data:\n"), i.key, i.cert)} {
			c := Parse(Ref{Certificate, "/c"}, bytes.Clone(text))
			if c.Problem != nil || len(c.Certs) != 1 {
				t.Fatalf("%s: %+v", kind, c.Problem)
			}
			got := c.Certs[0]
			if got.CN != "hv1" || got.Kind != kind || !slices.Equal(got.DNS, []string{"hv1", "hv1.example"}) ||
				!got.NotBefore.Equal(i.x.NotBefore) || !got.NotAfter.Equal(i.x.NotAfter) || !bytes.Equal(got.PEM, i.cert) || len(got.Fingerprint) != 64 {
				t.Errorf("%s: %+v", kind, got)
			}
		}
	}
}

// TestParseKey reads the forms in which openssl writes keys.
func TestParseKey(t *testing.T) {
	ec, r := issue(t, spec{cn: "hv1"}), issue(t, spec{cn: "hv1", kind: "RSA"})
	sec1, err := x509.MarshalECPrivateKey(ec.signer.(*ecdsa.PrivateKey))
	must(t, err)
	sec1PEM := pem.EncodeToMemory(&pem.Block{Type: pemEC, Bytes: sec1})
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: pemRSA, Bytes: x509.MarshalPKCS1PrivateKey(r.signer.(*rsa.PrivateKey))})
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	must(t, err)
	noSigner, err := x509.MarshalPKCS8PrivateKey(x25519)
	must(t, err)
	legacy := pem.EncodeToMemory(&pem.Block{Type: pemRSA, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")})
	for _, tc := range []struct {
		name string
		text []byte
		of   *issued
		code string
	}{
		{"PKCS #8", ec.key, ec, ""},
		{"PKCS #8 RSA", r.key, r, ""},
		{"PKCS #1", pkcs1, r, ""},
		{"SEC 1", sec1PEM, ec, ""},
		{"SEC 1 after its parameters", slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte("x")}), sec1PEM), ec, ""},
		{"after the certificate", slices.Concat(ec.cert, ec.key), ec, ""},
		{"encrypted PKCS #8", pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: []byte("x")}), nil, CodeEncrypted},
		{"encrypted as OpenSSL did", legacy, nil, CodeEncrypted},
		{"certificate", ec.cert, nil, CodeFormat},
		{"empty", nil, nil, CodeFormat},
		{"broken", pem.EncodeToMemory(&pem.Block{Type: pemPKCS8, Bytes: []byte("hunter2")}), nil, CodeFormat},
		{"no key to sign with", pem.EncodeToMemory(&pem.Block{Type: pemPKCS8, Bytes: noSigner}), nil, CodeKeyType},
	} {
		c := Parse(Ref{PrivateKey, "/k"}, bytes.Clone(tc.text))
		if code(c.Problem) != tc.code {
			t.Errorf("%s: %v, want %q", tc.name, c.Problem, tc.code)
		}
		if tc.of == nil {
			continue
		}
		if cert := Parse(Ref{Certificate, "/c"}, bytes.Clone(tc.of.cert)).Certs[0]; c.key != cert.key {
			t.Errorf("%s: is not found to be the certificate's", tc.name)
		}
		if b, rest := pem.Decode(c.Secret.Bytes()); b == nil || len(rest) > 0 {
			t.Errorf("%s: is not handed on as one PEM block", tc.name)
		}
	}
}

func TestParseRefused(t *testing.T) {
	good := issue(t, spec{cn: "hv1"})
	broken := pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: []byte("x")})
	for _, tc := range []struct {
		name string
		role Role
		text string
		code string
	}{
		{"empty", Certificate, "", CodeFormat},
		{"a key", Certificate, string(good.key), CodeFormat},
		{"DER", Certificate, string(good.x.Raw), CodeFormat},
		{"broken", Certificate, string(broken), CodeFormat},
		{"the second broken", CACert, string(good.cert) + string(broken), CodeFormat},
		{"no CN", Certificate, string(issue(t, spec{dns: []string{"hv1"}}).cert), CodeName},
		{"a wildcard as CN", RemoteCert, string(issue(t, spec{cn: "*.example"}).cert), CodeName},
		{"a pattern as CN", RemoteCert, string(issue(t, spec{cn: "^hv.*$"}).cert), CodeName},
		{"a CA without CN", CACert, string(issue(t, spec{noSAN: true, ca: true}).cert), ""},
		{"empty psk", PSKFile, "", CodePSK},
		{"a newline", PSKFile, "\n", CodePSK},
		{"two lines", PSKFile, "a\nb\n", CodePSK},
		{"zeroes", PSKFile, "a\x00b", CodePSK},
		{"psk", PSKFile, "a b", ""},
	} {
		if c := Parse(Ref{tc.role, "/f"}, []byte(tc.text)); code(c.Problem) != tc.code {
			t.Errorf("%s as %s: %v, want %q", tc.name, tc.role, c.Problem, tc.code)
		}
	}
}

func TestParsePSK(t *testing.T) {
	for text, want := range map[string]string{"swordfish": "swordfish", "swordfish\n": "swordfish", "swordfish\r\n": "swordfish", " 0x12 \n": " 0x12 "} {
		data := []byte(text)
		c := Parse(Ref{PSKFile, "/p"}, data)
		if got := string(c.Secret.Bytes()); c.Problem != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, c.Problem)
		}
		if !bytes.Equal(data, make([]byte, len(text))) {
			t.Error("what was read is not wiped")
		}
	}
}

func TestBundle(t *testing.T) {
	a, b := issue(t, spec{cn: "a", ca: true}), issue(t, spec{cn: "b", ca: true})
	text := slices.Concat(a.cert, []byte("# the other one\n"), b.cert)
	c := Parse(Ref{CACert, "/ca"}, bytes.Clone(text))
	if diff := cmp.Diff(string(slices.Concat(a.cert, b.cert)), string(c.bundle())); c.Problem != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", c.Problem, diff)
	}
}

// FuzzParse: whatever is in a file, it is read or refused, and nothing of what is
// secret is told.
func FuzzParse(f *testing.F) {
	i := issue(f, spec{cn: "hv1"})
	for role := range byte(5) {
		for _, text := range [][]byte{i.cert, i.key, []byte("swordfish\n"), slices.Concat(i.key, i.cert, i.cert)} {
			f.Add(role, text)
		}
	}
	f.Fuzz(func(t *testing.T, role byte, text []byte) {
		ref := Ref{[]Role{Certificate, PrivateKey, CACert, RemoteCert, PSKFile}[role%5], "/f"}
		const secret = "\u2603the-secret\u2603"
		if ref.Role.secret() {
			text = append(text, secret...)
		}
		c := Parse(ref, bytes.Clone(text))
		if (c.Problem == nil) == (len(c.Certs) == 0 && c.Secret.Empty()) {
			t.Fatalf("%d certificates, secret %v, problem %v", len(c.Certs), !c.Secret.Empty(), c.Problem)
		}
		if shown := fmt.Sprintf("%+v", c); strings.Contains(shown, secret) {
			t.Errorf("shown: %s", shown)
		}
	})
}
