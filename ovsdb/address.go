// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"net/netip"
	"strings"
)

// addresses reads remote_ip and local_ip. An address that is refused is left
// out, unless OVS would use it: then traffic to it has to be stopped.
func (r *optionReader) addresses() {
	remote, set := r.opts[optRemoteIP]
	switch {
	case !set:
		r.refuse(CodeRemoteIP, "remote_ip is not set: name the VTEP address of the peer")
	case remote == byFlow:
		r.t.ByFlow = true
		r.refuse(CodeRemoteIP, "remote_ip=flow: the flows choose the peer, so there is no pair of hosts to have keys: name the VTEP address of the peer")
	default:
		r.t.Remote = r.address(CodeRemoteIP, optRemoteIP, remote)
	}
	local, set := r.opts[optLocalIP]
	switch {
	case !set: // found by route
	case local == byFlow:
		r.t.ByFlow = true
		r.refuse(CodeLocalIP, "local_ip=flow: the flows choose the address, so no policy can name it: name the VTEP address of this host")
	default:
		r.t.Local = r.address(CodeLocalIP, optLocalIP, local)
	}
	r.pair()
}

// pair checks the two addresses against each other. OVS makes no tunnel of two
// families, so such a remote_ip is nobody's address.
func (r *optionReader) pair() {
	l, m := r.t.Local, r.t.Remote
	switch {
	case !l.IsValid() || !m.IsValid():
	case l.Is4() != m.Is4():
		r.refuse(CodeFamily, "local_ip %s and remote_ip %s: one is IPv4, the other IPv6: use the same family", l, m)
		r.t.Remote = netip.Addr{}
	case l == m:
		r.refuse(CodeRemoteIP, "remote_ip %s: is the port's own local_ip: name the VTEP address of the peer", m)
	}
}

// address returns the address that v stands for, or the zero Addr.
func (r *optionReader) address(code, option, v string) netip.Addr {
	a, err := netip.ParseAddr(v)
	if err != nil {
		r.refuse(code, "%s %s: not an IP address", option, quote(v))
		return netip.Addr{}
	}
	if why := unfit(a.Unmap()); why != "" {
		r.refuse(code, "%s %s: %s", option, quote(v), why)
		return netip.Addr{}
	}
	if a.Is4In6() {
		// OVS tunnels to the IPv4 address, but checks the family as IPv6
		// (parse_tunnel_ip, lib/netdev-vport.c).
		a = a.Unmap()
		r.refuse(code, "%s %s: IPv4 address in IPv6 form: write it as %s", option, quote(v), a)
	}
	return a
}

// unfit says why a cannot be the end of a pair, or "".
func unfit(a netip.Addr) string {
	switch {
	case a.Zone() != "":
		return "has a zone, which OVS does not take: use an address that needs none"
	case a.IsUnspecified():
		return "the unspecified address"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "a multicast or broadcast address, which no pair of keys can serve"
	}
	return ""
}

// portAsOVS returns the UDP port that OVS takes v for: it reads the number with
// atoi(3) and keeps the lower 16 bits (set_tunnel_config, lib/netdev-vport.c).
func portAsOVS(v string) uint16 {
	v = strings.TrimLeft(v, " \t\n\v\f\r")
	negative := strings.HasPrefix(v, "-")
	if negative || strings.HasPrefix(v, "+") {
		v = v[1:]
	}
	var n int64
	for _, c := range []byte(v) {
		if c < '0' || c > '9' {
			break
		}
		if n > (1<<63-1-int64(c-'0'))/10 {
			// glibc's strtol stops at the largest or the smallest long.
			if negative {
				return 0
			}
			return 1<<16 - 1
		}
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return uint16(n)
}
