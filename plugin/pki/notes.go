// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"
	"slices"
	"time"

	"ovs-ipsec-offload/ovsdb"
)

const daily = 24 * time.Hour

// stage is a time before a certificate's end at which to speak up, once more
// urgently. The shorter of the two counts: a certificate that lives for a week
// is no reason for alarm all week.
type stage struct {
	left  time.Duration
	share time.Duration // of the certificate's whole life: one part of so many
	text  string
}

// stages returns the stages, the most urgent first.
func stages() []stage {
	return []stage{{daily, 30, "1 day"}, {7 * daily, 10, "7 days"}, {30 * daily, 3, "30 days"}}
}

// Expires says that the certificate in ref ends soon, or nil. The text changes at
// each stage, 30, 7 and 1 days before (or a third, a tenth and a thirtieth of
// its life, if that is shorter), and not in between.
func Expires(ref Ref, c Cert, now time.Time) *Problem {
	left, life := c.NotAfter.Sub(now), c.NotAfter.Sub(c.NotBefore)
	if left < 0 {
		return nil // valid has said so
	}
	for _, s := range stages() {
		if before := min(s.left, life/s.share); left < before {
			text := s.text
			if before < s.left {
				text = fmt.Sprintf("1/%d of its life", s.share)
			}
			return problem(CodeExpires, "%s: expires on %s, in less than %s: install a new one at the same path; no tunnel goes down for that",
				ref, day(c.NotAfter), text)
		}
	}
	return nil
}

// PortNotes returns what is to be said about what a port names, though it can be
// used: a secret that stands in the database, a peer's certificate that ends soon.
func PortNotes(auth ovsdb.Auth, files Files, now time.Time) (notes []Problem) {
	if !auth.PSK.Empty() {
		notes = append(notes, *problem(CodePSKInOVSDB, "psk stands in the database, where every client and every backup can read it: "+
			"write it to a file of mode 600 on this host, and name that with psk_file"))
	}
	ref := Ref{RemoteCert, auth.RemoteCert}
	return append(notes, files.ends(ref, now)...)
}

// HostNotes returns what is to be said about the host's own files, though they can
// be used: a certificate that ends soon, or that peers will not like.
func HostNotes(host ovsdb.PKI, files Files, now time.Time) (notes []Problem) {
	ref, caRef := Ref{Certificate, host.Certificate}, Ref{CACert, host.CACert}
	notes = append(files.ends(ref, now), files.ends(caRef, now)...)
	own, ca := files[ref], files[caRef]
	if len(own.Certs) == 0 || own.Certs[0].valid(ref, now) != nil {
		return notes
	}
	if c := own.Certs[0]; !c.named() {
		notes = append(notes, *problem(CodeName, "%s: has the CN %q, but no subjectAltName DNS:%s: a peer with libreswan will refuse it", ref, c.CN, c.CN))
	}
	if len(ca.Certs) > 0 && !own.Certs[0].SignedBy(ca.Certs, own.Certs[1:], now) {
		notes = append(notes, *problem(CodeUnsigned, "%s: is not signed by ca_cert %s: peers that have the same ca_cert will refuse it", ref, host.CACert))
	}
	return notes
}

// ends says that the certificate in ref, or the last of the CAs, ends soon.
func (f Files) ends(ref Ref, now time.Time) []Problem {
	certs := f[ref].Certs
	if len(certs) == 0 {
		return nil
	}
	c := certs[0]
	if ref.Role == CACert {
		c = slices.MaxFunc(certs, func(a, b Cert) int { return a.NotAfter.Compare(b.NotAfter) })
	}
	if p := Expires(ref, c, now); p != nil {
		return []Problem{*p}
	}
	return nil
}
