// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"ovs-ipsec-offload/plugin/ike"
)

// MaxFile is the largest file that is read, in bytes: a bundle of a hundred CAs
// and more has room.
const MaxFile = 1 << 20

// Content is what one file holds, or why it cannot be used.
type Content struct {
	// Certs are the certificates in the order of the file: one or more. For
	// certificate and remote_cert the first is the host's, and others are those
	// between it and its CA.
	Certs []Cert
	// Secret is the private key as one PEM block, or the pre-shared key.
	Secret  ike.Secret
	Problem *Problem

	key [sha256.Size]byte // of the private key's public key
}

// Files is what the files hold that somebody asked for.
type Files map[Ref]Content

// Parse reads the content of a file. It wipes data and keeps no reference to it.
func Parse(ref Ref, data []byte) Content {
	defer clear(data)
	switch ref.Role {
	case PSKFile:
		return parsePSK(ref, data)
	case PrivateKey:
		return parseKey(ref, data)
	}
	return parseCerts(ref, data)
}

// parsePSK takes the whole file but for the newline at its end.
func parsePSK(ref Ref, data []byte) Content {
	psk := bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	switch {
	case len(psk) == 0:
		return Content{Problem: problem(CodePSK, "%s: is empty: write the same long random secret into the files of both ends", ref)}
	case bytes.ContainsAny(psk, "\n\r\x00"):
		return Content{Problem: problem(CodePSK, "%s: has more than one line: it must hold the secret alone", ref)}
	}
	return Content{Secret: ike.NewSecret(bytes.Clone(psk))}
}

// parseKey takes the first private key of the file.
func parseKey(ref Ref, data []byte) Content {
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return Content{Problem: problem(CodeFormat, "%s: holds no private key in PEM: it must have a line -----BEGIN PRIVATE KEY-----", ref)}
		}
		if !strings.HasSuffix(b.Type, pemPKCS8) {
			continue // EC PARAMETERS, or a certificate beside the key
		}
		defer clear(b.Bytes)
		if b.Type == pemEncrypted || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") {
			return Content{Problem: problem(CodeEncrypted, "%s: is encrypted, and nobody is there to give the passphrase: "+
				"run: openssl pkey -in %s -out NEW, and install NEW with mode 600", ref, ref.Path)}
		}
		return keyOf(ref, b)
	}
}

func keyOf(ref Ref, b *pem.Block) Content {
	key, err := decodeKey(b)
	if err != nil {
		return Content{Problem: problem(CodeFormat, "%s: holds a private key that cannot be read: use RSA, ECDSA or Ed25519, and export it again with: openssl pkey", ref)}
	}
	signer, is := key.(crypto.Signer)
	if !is || kindOf(signer.Public()) == "" {
		return Content{Problem: problem(CodeKeyType, "%s: is a key of a kind that IKE does not sign with: use RSA, ECDSA or Ed25519", ref)}
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return Content{Problem: problem(CodeKeyType, "%s: is a key of a kind that IKE does not sign with: use RSA, ECDSA or Ed25519", ref)}
	}
	b.Headers = nil
	return Content{Secret: ike.NewSecret(pem.EncodeToMemory(b)), key: sha256.Sum256(public)}
}

// decodeKey reads a private key. Its errors may quote what they read.
func decodeKey(b *pem.Block) (any, error) {
	switch b.Type {
	case pemRSA:
		return x509.ParsePKCS1PrivateKey(b.Bytes)
	case pemEC:
		return x509.ParseECPrivateKey(b.Bytes)
	}
	return x509.ParsePKCS8PrivateKey(b.Bytes)
}

// parseCerts takes every certificate of the file, and passes over what else may
// stand there, as the text that `openssl x509 -text` puts in front.
func parseCerts(ref Ref, data []byte) Content {
	var c Content
	for rest := data; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != pemCertificate {
			continue
		}
		x, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return Content{Problem: problem(CodeFormat, "%s: certificate %d cannot be read: %v", ref, len(c.Certs)+1, err)}
		}
		c.Certs = append(c.Certs, certOf(x))
	}
	if len(c.Certs) == 0 {
		return Content{Problem: problem(CodeFormat, "%s: holds no certificate in PEM: it must have a line -----BEGIN CERTIFICATE-----", ref)}
	}
	if ref.Role != CACert {
		return c.asHost(ref)
	}
	return c
}

// asHost refuses what cannot stand for a host.
func (c Content) asHost(ref Ref) Content {
	switch host := c.Certs[0]; {
	case host.Kind == "":
		return Content{Problem: problem(CodeKeyType, "%s: its key is of a kind that IKE does not sign with: use RSA, ECDSA or Ed25519", ref)}
	case !usable(host.CN):
		return Content{Problem: problem(CodeName, "%s: its subject has no common name (CN) that can name a host: make one with the host's name as CN and as "+
			"subjectAltName of type DNS", ref)}
	}
	return c
}

// bundle returns the certificates as one PEM text.
func (c Content) bundle() []byte {
	var b []byte
	for _, x := range c.Certs {
		b = append(b, x.PEM...)
	}
	return b
}
