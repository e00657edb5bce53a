// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strings"
	"time"
	"unicode"
)

// The PEM types that are read (RFC 7468, and OpenSSL's older ones).
const (
	pemCertificate = "CERTIFICATE"
	pemPKCS8       = "PRIVATE KEY"
	pemEncrypted   = "ENCRYPTED PRIVATE KEY"
	pemRSA         = "RSA PRIVATE KEY"
	pemEC          = "EC PRIVATE KEY"
)

// Cert is what an X.509 certificate says, as plain data.
type Cert struct {
	CN                  string   // common name of the subject, the most specific one
	DNS                 []string // subjectAltName, type DNS
	NotBefore, NotAfter time.Time
	Kind                string // of the key: "RSA", "ECDSA" or "Ed25519"
	Fingerprint         string // SHA-256 of the certificate, hexadecimal
	PEM                 []byte

	subject []byte            // DER
	key     [sha256.Size]byte // of the public key
	parsed  *x509.Certificate
}

// certOf turns a certificate into plain data.
func certOf(c *x509.Certificate) Cert {
	print := sha256.Sum256(c.Raw)
	return Cert{
		CN: c.Subject.CommonName, DNS: c.DNSNames, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		Kind: kindOf(c.PublicKey), Fingerprint: hex.EncodeToString(print[:]),
		PEM:     pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw}),
		subject: c.RawSubject, key: sha256.Sum256(c.RawSubjectPublicKeyInfo), parsed: c,
	}
}

// kindOf names the kinds of keys that IKE daemons sign with, and no others.
func kindOf(public crypto.PublicKey) string {
	switch public.(type) {
	case *rsa.PublicKey:
		return "RSA"
	case *ecdsa.PublicKey:
		return "ECDSA"
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return ""
}

// ID returns the IKE identity of the certificate's holder, as strongSwan writes
// it: the CN as an FQDN if subjectAltName has it too, and otherwise the subject,
// which is what strongSwan falls back on by itself.
func (c Cert) ID() string {
	if c.named() {
		return nameID(c.CN)
	}
	return "asn1dn:#" + hex.EncodeToString(c.subject)
}

// named tells whether an IKE daemon lets the holder go by the CN.
func (c Cert) named() bool { return slices.Contains(c.DNS, c.CN) && usable(c.CN) }

// nameID returns the identity of the holder of a certificate with that CN.
func nameID(cn string) string { return "fqdn:" + cn }

// usable tells whether an IKE daemon takes cn for this one name: strongSwan reads
// '#' as the start of hexadecimal digits, '^' as that of a regular expression,
// and '*' as a wildcard.
func usable(cn string) bool {
	return cn != "" && !strings.ContainsAny(cn, "*") && cn[0] != '#' && cn[0] != '^' && !strings.ContainsFunc(cn, unicode.IsControl)
}

// SignedBy tells whether a chain leads from c, by way of others, to one of the
// CA's certificates at the time now.
func (c Cert) SignedBy(cas, others []Cert, now time.Time) bool {
	pool := func(cs []Cert) *x509.CertPool {
		p := x509.NewCertPool()
		for _, c := range cs {
			p.AddCert(c.parsed)
		}
		return p
	}
	_, err := c.parsed.Verify(x509.VerifyOptions{
		Roots: pool(cas), Intermediates: pool(others), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}

// valid says why the certificate in ref cannot be used now, or nil.
func (c Cert) valid(ref Ref, now time.Time) *Problem {
	switch {
	case now.After(c.NotAfter):
		return problem(CodeExpired, "%s: expired on %s: install a new one at the same path", ref, day(c.NotAfter))
	case now.Before(c.NotBefore):
		return problem(CodeNotYet, "%s: is valid from %s on: check this host's clock, or wait", ref, day(c.NotBefore))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
