// SPDX-License-Identifier: Apache-2.0

package rules

import "strings"

// ParseCommand reads a command in the words of ip, tc, devlink or ethtool.
func ParseCommand(line string) (Command, error) {
	r := newReader(line)
	c := parseTool(r)
	if err := r.done(); err != nil {
		return nil, err
	}
	return c, nil
}

func parseTool(r *reader) Command {
	switch r.oneOf("ip", "tc", "devlink", "ethtool") {
	case "tc":
		return parseTC(r)
	case "devlink":
		return parseDevlink(r)
	case "ethtool":
		return parseEthtool(r)
	}
	switch r.oneOf("xfrm", "link") {
	case "xfrm":
		return parseXFRM(r)
	default:
		return parseLink(r)
	}
}

func parseXFRM(r *reader) Command {
	object, verb := r.oneOf("state", "policy"), r.word()
	switch object + " " + verb {
	case "state add", "state update":
		return parseStateAdd(r, verb == "update")
	case "state delete":
		return parseStateDelete(r)
	case "state flush":
		return StateFlush{}
	case "policy add", "policy update":
		return parsePolicyAdd(r, verb == "update")
	case "policy delete":
		return parsePolicyDelete(r)
	case "policy flush":
		return PolicyFlush{}
	}
	r.fail("unknown %s verb %q", object, verb)
	return nil
}

// parseStateAdd wants the parts in the order in which String gives them.
func parseStateAdd(r *reader, update bool) Command {
	s := StateAdd{Update: update}
	r.expect("src")
	s.Src = r.addr()
	r.expect("dst")
	s.Dst = r.addr()
	r.expect("proto")
	s.Proto = r.oneOf("esp", "ah")
	r.expect("spi")
	s.SPI = r.uint32()
	if r.accept("reqid") {
		s.Reqid = r.uint32()
	}
	r.expect("mode")
	s.Mode = r.oneOf("transport", "tunnel", "beet")
	for r.peek() == "aead" || r.peek() == "enc" || r.peek() == "auth" {
		s.Algs = append(s.Algs, parseAlg(r))
	}
	parseStateOptions(r, &s)
	return s
}

func parseStateOptions(r *reader, s *StateAdd) {
	if r.accept("flag", "esn") {
		s.ESN = true
	}
	if r.accept("replay-window") {
		s.Window = r.uint32()
	}
	if r.accept("encap") {
		s.Encap = &Encap{Type: r.name(), SPort: r.uint16(), DPort: r.uint16(), Addr: r.addr()}
	}
	if r.accept("sel") {
		u := parseUpper(r)
		s.Sel = &u
	}
	for r.accept("limit") {
		kind := r.oneOf("byte-soft", "byte-hard", "packet-soft", "packet-hard")
		s.Limits = append(s.Limits, Limit{kind, r.uint(64)})
	}
	if r.peek() == "offload" {
		s.Offload = parseOffload(r)
		r.expect("dir")
		s.Offload.Dir = r.oneOf("in", "out")
	}
}

func parseAlg(r *reader) Alg {
	a := Alg{Type: r.word(), Name: r.word(), Key: r.word()}
	if r.err == nil && !strings.HasPrefix(a.Key, "0x") {
		r.fail("bad key: want 0x…")
	}
	if a.Type == "aead" {
		a.ICV = int(r.uint(16))
	}
	return a
}

func parseUpper(r *reader) Upper {
	var u Upper
	if !r.accept("proto") {
		return u
	}
	u.Proto = r.name()
	if r.accept("sport") {
		u.SPort = r.uint16()
	}
	if r.accept("dport") {
		u.DPort = r.uint16()
	}
	return u
}

func parseOffload(r *reader) *Offload {
	r.expect("offload")
	o := &Offload{Packet: r.accept("packet")}
	r.expect("dev")
	o.Dev = r.name()
	return o
}

func parseStateDelete(r *reader) Command {
	var s StateDelete
	r.expect("src")
	s.Src = r.addr()
	r.expect("dst")
	s.Dst = r.addr()
	r.expect("proto", "esp", "spi")
	s.SPI = r.uint32()
	return s
}

func parsePolicyAdd(r *reader, update bool) Command {
	p := PolicyAdd{Update: update}
	r.expect("src")
	p.Src = r.prefix()
	r.expect("dst")
	p.Dst = r.prefix()
	p.Upper = parseUpper(r)
	r.expect("dir")
	p.Dir = r.oneOf("in", "out", "fwd")
	p.Sub = r.accept("ptype", "sub")
	if r.accept("priority") {
		p.Priority = r.uint32()
	}
	p.Block = r.accept("action", "block")
	if r.peek() == "offload" {
		p.Offload = parseOffload(r)
		p.Offload.Dir = p.Dir
	}
	for r.accept("tmpl") {
		p.Tmpls = append(p.Tmpls, parseTmpl(r))
	}
	return p
}

func parseTmpl(r *reader) Tmpl {
	var t Tmpl
	r.expect("src")
	t.Src = r.addr()
	r.expect("dst")
	t.Dst = r.addr()
	r.expect("proto", "esp", "reqid")
	t.Reqid = r.uint32()
	r.expect("mode")
	t.Mode = r.oneOf("transport", "tunnel")
	return t
}

func parsePolicyDelete(r *reader) Command {
	var p PolicyDelete
	r.expect("src")
	p.Src = r.prefix()
	r.expect("dst")
	p.Dst = r.prefix()
	p.Upper = parseUpper(r)
	r.expect("dir")
	p.Dir = r.oneOf("in", "out", "fwd")
	return p
}
