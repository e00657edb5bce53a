// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"bytes"
	"cmp"
	"net/netip"
	"time"
)

// Prefix begins the name of everything of ours in the IKE daemon.
const Prefix = "oio-"

// The names of a Conn's children, as Child.Name gives them. Seen from this end:
// the overlay's packets leave through the one and come in through the other, or
// do both through the only one.
const (
	Out  = "out"  // udp here to udp/Port there
	In   = "in"   // udp/Port here to udp there
	Both = "both" // udp to udp: with Conn.OneChild, instead of the other two
)

// Conn is one peer: an IKE SA with two children, one for each direction of the
// overlay's packets, or with OneChild a single one. Each child is set up and rekeyed by the end that sends
// through it, because the receiver then has the new inbound SA before the
// sender uses it, and a rekey loses nothing.
type Conn struct {
	Name          string     // begins with Prefix, unique among the wanted
	Local, Remote netip.Addr // the outer addresses
	Port          uint16     // UDP destination port of the overlay, 4789 for VXLAN
	Auth          Auth

	// ReqidOut and ReqidIn are given to the children's SAs and policies. With
	// OneChild they are one.
	ReqidOut, ReqidIn uint32

	// OneChild tells that one child does for both directions, which the end that
	// leads sets up and rekeys. It takes half of the NIC's SAs, and all UDP between
	// the two addresses, whatever its port.
	OneChild bool

	// Lead tells that this end sets up the IKE SA. The other end waits for it,
	// and does it itself after Options.TakeOver.
	Lead bool
	// Stock tells that the peer runs ovs-monitor-ipsec: it gets the proposals
	// which that writes, and does not know of Lead.
	Stock bool
	// Own replaces what Options say, where it is not zero.
	Own Own
}

// Own is what one Conn has instead of the Options of that name.
type Own struct {
	RekeyTime, IKERekeyTime, DPDDelay time.Duration
	ReplayWindow                      int
}

// of returns what holds for a Conn.
func (o Options) of(c Conn) Options {
	if c.Own.RekeyTime > 0 {
		o.RekeyTime, o.RandTime = c.Own.RekeyTime, 0
	}
	o.IKERekeyTime = cmp.Or(c.Own.IKERekeyTime, o.IKERekeyTime)
	o.DPDDelay = cmp.Or(c.Own.DPDDelay, o.DPDDelay)
	o.ReplayWindow = cmp.Or(c.Own.ReplayWindow, o.ReplayWindow)
	return o.WithDefaults()
}

// Equal tells whether c and d are the same in everything.
func (c Conn) Equal(d Conn) bool {
	return c.sameBut(d) && c.Auth.Equal(d.Auth)
}

// sameBut compares all but Auth.
func (c Conn) sameBut(d Conn) bool {
	return c.Name == d.Name && c.Local == d.Local && c.Remote == d.Remote && c.Port == d.Port &&
		c.ReqidOut == d.ReqidOut && c.ReqidIn == d.ReqidIn && c.Lead == d.Lead && c.Stock == d.Stock && c.Own == d.Own &&
		c.OneChild == d.OneChild
}

// Children returns the names of the Conn's children, the one to begin with first.
func (c Conn) Children() []string {
	if c.OneChild {
		return []string{Both}
	}
	return []string{Out, In}
}

// sends returns the name of the child that carries what this end sends.
func (c Conn) sends() string { return c.Children()[0] }

// Auth says how the two ends know each other. Exactly one of PSK, RemoteCert
// and CA is set. Certificates are contents, not paths.
type Auth struct {
	PSK Secret

	// LocalID and RemoteID are IKE identities as strongSwan writes them. ""
	// means the address with a PSK, and otherwise the common name of Cert and of
	// RemoteCert; with CA RemoteID must be given.
	LocalID, RemoteID string

	Cert       []byte // PEM, of this end
	RemoteCert []byte // PEM, the very certificate of the peer (self-signed)
	CA         []byte // PEM, one or more certificates that the peer's must be signed by
	Key        Secret // PEM, private key of Cert, not encrypted
}

// Equal tells whether a and b are the same in everything.
func (a Auth) Equal(b Auth) bool {
	return a.PSK.Equal(b.PSK) && a.LocalID == b.LocalID && a.RemoteID == b.RemoteID &&
		bytes.Equal(a.Cert, b.Cert) && bytes.Equal(a.RemoteCert, b.RemoteCert) &&
		bytes.Equal(a.CA, b.CA) && a.Key.Equal(b.Key)
}

// sameTraffic tells whether the SAs of c would do for d.
func (c Conn) sameTraffic(d Conn) bool {
	return c.Local == d.Local && c.Remote == d.Remote && c.Port == d.Port &&
		c.ReqidOut == d.ReqidOut && c.ReqidIn == d.ReqidIn && c.OneChild == d.OneChild
}
