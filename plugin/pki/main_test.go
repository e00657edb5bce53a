// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// issued is a certificate and its key.
type issued struct {
	cert, key []byte // PEM
	x         *x509.Certificate
	signer    crypto.Signer
}

// spec says what certificate to make. Its life is a year around testTime, its
// kind ECDSA and its name a CN with the same subjectAltName, if not said otherwise.
type spec struct {
	cn       string
	dns      []string
	noSAN    bool
	ca       bool
	from, to time.Time
	kind     string
	by       *issued // nil: itself
}

func issue(t testing.TB, s spec) *issued {
	t.Helper()
	if s.dns == nil && !s.noSAN {
		s.dns = []string{s.cn}
	}
	if s.from.IsZero() {
		s.from, s.to = testTime.AddDate(0, -6, 0), testTime.AddDate(0, 6, 0)
	}
	i := &issued{signer: newKey(t, s.kind)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: s.cn, Organization: []string{"test"}}, DNSNames: s.dns,
		NotBefore: s.from, NotAfter: s.to, IsCA: s.ca, BasicConstraintsValid: true,
	}
	parent, with := template, i.signer
	if s.by != nil {
		parent, with = s.by.x, s.by.signer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, i.signer.Public(), with)
	must(t, err)
	i.x, err = x509.ParseCertificate(der)
	must(t, err)
	i.cert = pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(i.signer)
	must(t, err)
	i.key = pem.EncodeToMemory(&pem.Block{Type: pemPKCS8, Bytes: pkcs8})
	return i
}

func newKey(t testing.TB, kind string) (k crypto.Signer) {
	t.Helper()
	var err error
	switch kind {
	case "RSA":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case "Ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	default:
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	must(t, err)
	return k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// files parses texts as those files. Parse wipes what it is given.
func files(texts map[Ref][]byte) Files {
	f := Files{}
	for ref, text := range texts {
		f[ref] = Parse(ref, bytes.Clone(text))
	}
	return f
}

func code(p *Problem) string {
	if p == nil {
		return ""
	}
	return p.Code
}
