// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"
	"maps"
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

// Notes returns what is to be said about files that can be used: certificates
// that end soon, and what peers will not like about the host's own.
func Notes(host ovsdb.PKI, files Files, now time.Time) []Problem {
	var notes []Problem
	refs := slices.SortedFunc(maps.Keys(files), Ref.compare)
	for _, ref := range refs {
		if p := lastToExpire(ref, files[ref].Certs, now); p != nil {
			notes = append(notes, *p)
		}
	}
	return append(notes, files.ofHost(host, now)...)
}

// ofHost returns what other hosts will find wrong with this host's certificate.
func (f Files) ofHost(host ovsdb.PKI, now time.Time) (notes []Problem) {
	ref := Ref{Certificate, host.Certificate}
	own, ca := f[ref], f[Ref{CACert, host.CACert}]
	if len(own.Certs) == 0 || own.Certs[0].valid(ref, now) != nil {
		return nil
	}
	if c := own.Certs[0]; !c.named() {
		notes = append(notes, *problem(CodeName, "%s: has the CN %q, but no subjectAltName DNS:%s: a peer with libreswan will refuse it", ref, c.CN, c.CN))
	}
	if len(ca.Certs) > 0 && !own.Certs[0].SignedBy(ca.Certs, own.Certs[1:], now) {
		notes = append(notes, *problem(CodeUnsigned, "%s: is not signed by ca_cert %s: peers that have the same ca_cert will refuse it", ref, host.CACert))
	}
	return notes
}

// lastToExpire speaks of a host's certificate, and of the CA's that lasts longest.
func lastToExpire(ref Ref, certs []Cert, now time.Time) *Problem {
	if len(certs) == 0 {
		return nil
	}
	c := certs[0]
	if ref.Role == CACert {
		c = slices.MaxFunc(certs, func(a, b Cert) int { return a.NotAfter.Compare(b.NotAfter) })
	}
	return Expires(ref, c, now)
}
