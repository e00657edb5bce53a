// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ovs-ipsec-offload/plugin"
)

// Connections is the answer of ipsec/status: for each port that is encrypted now
// its two connections, as Python prints a dict of dicts, and {} without any. Who
// reads it turns the single quotes into double ones and takes it for JSON: so no
// text in it has a quote of either kind or a backslash.
func (v View) Connections() string {
	x := v.index()
	const usual = 300 // bytes of one port
	b := append(make([]byte, 0, 2+usual*len(v.Seen.Status.Ports)), '{')
	for i := range v.Snapshot.Tunnels {
		t := &v.Snapshot.Tunnels[i]
		p := x.pairs[t.Name]
		if !t.IPsec || !active(p) {
			continue
		}
		b = append(appendQuoted(appendComma(b, '{'), t.Name), ": {"...)
		for _, d := range connections(p) {
			b = v.appendName(append(appendComma(b, '{'), '\''), t.Name, d)
			b = append(v.appendConnection(append(b, "': '"...), t.Name, d, p.PF), '\'')
		}
		b = append(b, '}')
	}
	return string(append(b, '}', '\n'))
}

// connection is one direction of a pair's traffic; ovs-monitor-ipsec has a
// connection for each.
type connection struct {
	dir, spi, at string
	plugin.Traffic
}

// connections returns the directions of a pair that have an SA.
func connections(p *plugin.PairStatus) []connection {
	if !active(p) {
		return nil
	}
	both := []connection{{"in", p.SPIIn, p.Local, p.In}, {"out", p.SPIOut, p.Remote, p.Out}}
	return slices.DeleteFunc(both, func(c connection) bool { return c.spi == "" })
}

// appendName appends the name of a port's connection: "vx0-in-1".
func (v View) appendName(b []byte, port string, c connection) []byte {
	b = append(appendPlain(b, port), '-')
	b = append(append(b, c.dir...), '-')
	return strconv.AppendInt(b, int64(v.Version(port)), 10)
}

// appendConnection appends what is to say of a port's connection.
func (v View) appendConnection(b []byte, port string, c connection, pf string) []byte {
	b = append(v.appendName(b, port, c), ": INSTALLED esp."...)
	b = append(append(b, strings.TrimPrefix(c.spi, "0x")...), '@')
	b = append(append(b, c.at...), " packets="...)
	b = append(strconv.AppendUint(b, c.Packets, 10), " bytes="...)
	b = append(strconv.AppendUint(b, c.Bytes, 10), " dropped="...)
	b = append(strconv.AppendUint(b, c.Dropped, 10), " offload=packet dev="...)
	return appendPlain(b, pf)
}

// Policies is the answer of xfrm/policies: our policies by each of their two
// addresses, as Python prints a dict of lists.
func (v View) Policies() string {
	d := dict{}
	for i := range v.Seen.Policies {
		p := &v.Seen.Policies[i]
		d.add(p.Sel.Src.Addr(), p.Sel.Dst.Addr(), string(p.AppendShown(nil, v.Seen.Device)))
	}
	return d.String()
}

// States is the answer of xfrm/state: our SAs likewise, without their keys.
func (v View) States() string {
	d := dict{}
	for i := range v.Seen.SAs {
		s := &v.Seen.SAs[i]
		d.add(s.Src, s.Dst, string(s.AppendShown(nil, v.Seen.Device)))
	}
	return d.String()
}

// dict is what lines are about, by address.
type dict map[netip.Addr][]string

func (d dict) add(src, dst netip.Addr, line string) {
	d[src] = append(d[src], line)
	if dst != src {
		d[dst] = append(d[dst], line)
	}
}

// String returns the dict in the order of addresses.
func (d dict) String() string {
	size := 0
	for _, lines := range d {
		for _, line := range lines {
			size += len(line) + len("'', ") + len("'255.255.255.255': []")
		}
	}
	b := append(make([]byte, 0, size), '{')
	for _, a := range slices.SortedFunc(maps.Keys(d), netip.Addr.Compare) {
		b = append(appendQuoted(appendComma(b, '{'), a.String()), ": ["...)
		for _, line := range d[a] {
			b = appendQuoted(appendComma(b, '['), line)
		}
		b = append(b, ']')
	}
	return string(append(b, '}', '\n'))
}

// appendComma separates what follows from what stands since open, if anything does.
func appendComma(b []byte, open byte) []byte {
	if b[len(b)-1] == open {
		return b
	}
	return append(b, ", "...)
}

// appendQuoted appends s in single quotes.
func appendQuoted(b []byte, s string) []byte {
	return append(appendPlain(append(b, '\''), s), '\'')
}

// appendPlain appends s with question marks for quotes of both kinds, backslashes
// and what is not printable: nobody who reads these answers can be relied on to
// unquote them, and a name in the database may hold anything.
func appendPlain(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\'' || c == '"' || c == '\\' {
			return append(b, strings.Map(plain, s)...)
		}
	}
	return append(b, s...)
}

func plain(r rune) rune {
	if r == '\'' || r == '"' || r == '\\' || !strconv.IsPrint(r) {
		return '?'
	}
	return r
}
