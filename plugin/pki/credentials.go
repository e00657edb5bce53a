// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
)

// Credentials returns what an IKE daemon needs for a tunnel with the options
// auth, on a host with the files of host, at the time now; or why it cannot be
// had. The tunnel is one that package ovsdb found no fault with.
//
// Identities are those of ovs-monitor-ipsec: the addresses with a pre-shared
// key, and otherwise the CNs as FQDNs, which libreswan wants to find in the
// certificates' subjectAltName and strongSwan replaces by the subject if it does
// not. Cert has, after the host's certificate, those between it and its CA.
func Credentials(auth ovsdb.Auth, host ovsdb.PKI, files Files, now time.Time) (ike.Auth, *Problem) {
	for _, ref := range Refs(auth, host) {
		if p := files.problem(ref); p != nil {
			return ike.Auth{}, p
		}
	}
	r := resolver{auth: auth, host: host, files: files, now: now}
	switch auth.Method {
	case ovsdb.MethodPSK:
		return r.psk()
	case ovsdb.MethodSelfSigned:
		return r.selfSigned()
	case ovsdb.MethodCA:
		return r.byCA()
	}
	return ike.Auth{}, problem(CodeFile, "no way of authentication is named")
}

// problem says what is wrong with a file, or nil.
func (f Files) problem(ref Ref) *Problem {
	c, read := f[ref]
	if !read {
		return problem(CodeMissing, "%s: was not read yet", ref)
	}
	return c.Problem
}

// resolver makes credentials of one tunnel. All files that it needs were read.
type resolver struct {
	auth  ovsdb.Auth
	host  ovsdb.PKI
	files Files
	now   time.Time
}

func (r resolver) psk() (ike.Auth, *Problem) {
	if r.auth.PSKFile != "" {
		return ike.Auth{PSK: r.files[Ref{PSKFile, r.auth.PSKFile}].Secret}, nil
	}
	return ike.Auth{PSK: ike.NewSecret(r.auth.PSK.Bytes())}, nil
}

func (r resolver) selfSigned() (ike.Auth, *Problem) {
	own, a, p := r.own()
	if p != nil {
		return ike.Auth{}, p
	}
	ref := Ref{RemoteCert, r.auth.RemoteCert}
	peer := r.files[ref].Certs[0]
	switch name := r.auth.RemoteName; {
	case peer.valid(ref, r.now) != nil:
		return ike.Auth{}, peer.valid(ref, r.now)
	case peer.Fingerprint == own.Fingerprint:
		return ike.Auth{}, problem(CodeOwn, "%s: is this host's own certificate: install the peer's there", ref)
	case name != "" && name != peer.CN:
		return ike.Auth{}, problem(CodeRemoteName, "%s: is the certificate of %q, but remote_name says %q: "+
			"remove remote_name, or install the certificate of that host", ref, peer.CN, name)
	}
	a.RemoteID, a.RemoteCert = peer.ID(), peer.PEM
	return a, nil
}

func (r resolver) byCA() (ike.Auth, *Problem) {
	own, a, p := r.own()
	if p != nil {
		return ike.Auth{}, p
	}
	if !own.named() {
		return ike.Auth{}, problem(CodeName, "%s: has the CN %q, but no subjectAltName DNS:%s, so no peer would accept it for that name: "+
			"make one that has both", Ref{Certificate, r.host.Certificate}, own.CN, own.CN)
	}
	ref := Ref{CACert, r.host.CACert}
	if p := anyValid(r.files[ref].Certs, ref, r.now); p != nil {
		return ike.Auth{}, p
	}
	a.RemoteID, a.CA = nameID(r.auth.RemoteName), r.files[ref].bundle()
	return a, nil
}

// own returns this host's certificate, and what it gives of the credentials.
func (r resolver) own() (Cert, ike.Auth, *Problem) {
	ref, keyRef := Ref{Certificate, r.host.Certificate}, Ref{PrivateKey, r.host.PrivateKey}
	chain, key := r.files[ref], r.files[keyRef]
	own := chain.Certs[0]
	if key.key != own.key {
		return own, ike.Auth{}, problem(CodeKeyMismatch, "%s: is not the key of %s: install the two that were made together", keyRef, ref)
	}
	if p := own.valid(ref, r.now); p != nil {
		return own, ike.Auth{}, p
	}
	return own, ike.Auth{LocalID: own.ID(), Cert: chain.bundle(), Key: key.Secret}, nil
}

// anyValid is content with one certificate that can be used now: a CA that is
// replaced by another stands beside it for a while.
func anyValid(certs []Cert, ref Ref, now time.Time) (last *Problem) {
	for _, c := range certs {
		if last = c.valid(ref, now); last == nil {
			return nil
		}
	}
	return last
}
