// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strconv"
	"strings"
)

func parseLink(r *reader) Command {
	r.expect("set")
	return LinkSet{Dev: r.name(), Up: r.oneOf("up", "down") == "up"}
}

func parseTC(r *reader) Command {
	r.expect("filter")
	verb := r.oneOf("add", "del")
	r.expect("dev")
	dev := r.name()
	r.expect("ingress")
	if verb == "add" {
		return parseFilterAdd(r, dev)
	}
	d := FilterDel{Dev: dev}
	if r.accept("pref") {
		d.Pref = r.uint16()
	}
	return d
}

func parseFilterAdd(r *reader, dev string) Command {
	f := FilterAdd{Dev: dev, Family: 4}
	r.expect("protocol")
	if r.oneOf("ip", "ipv6") == "ipv6" {
		f.Family = 6
	}
	r.expect("pref")
	f.Pref = r.uint16()
	r.expect("flower")
	f.SkipSW = r.accept("skip_sw")
	if r.accept("dst_ip") {
		f.Dst = r.addr()
	}
	if r.peek() == "enc_src_ip" {
		f.Tunnel = parseTunnel(r, "enc_src_ip", "enc_dst_ip", "enc_key_id", "enc_dst_port")
	}
	for r.accept("action") {
		f.Actions = append(f.Actions, parseAction(r))
	}
	if len(f.Actions) == 0 {
		r.fail("a filter needs an action")
	}
	return f
}

func parseTunnel(r *reader, src, dst, id, dport string) *Tunnel {
	var t Tunnel
	r.expect(src)
	t.Src = r.addr()
	r.expect(dst)
	t.Dst = r.addr()
	r.expect(id)
	t.ID = r.uint32()
	r.expect(dport)
	t.DPort = r.uint16()
	return &t
}

func parseAction(r *reader) Action {
	switch r.oneOf("drop", "tunnel_key", "mirred") {
	case "drop":
		return Action{Kind: "drop"}
	case "mirred":
		r.expect("egress")
		a := Action{Kind: r.oneOf("redirect", "mirror")}
		r.expect("dev")
		a.Dev = r.name()
		if a.Kind == "mirror" {
			r.expect("pipe")
		}
		return a
	}
	a := Action{Kind: "decap"}
	if r.oneOf("set", "unset") == "set" {
		a.Kind = "encap"
		a.Set = parseTunnel(r, "src_ip", "dst_ip", "id", "dst_port")
	}
	r.expect("pipe")
	return a
}

// Scripts say pf0 where devlink wants the handle of the NIC.
func parseDevlink(r *reader) Command {
	switch r.oneOf("dev", "port") {
	case "port":
		return parseFunction(r)
	}
	if r.oneOf("eswitch", "param") == "param" {
		r.expect("set", "pf0", "name", "flow_steering_mode", "value")
		s := SteeringSet{r.name()}
		r.expect("cmode", "runtime")
		return s
	}
	r.expect("set", "pf0")
	e := EswitchSet{Key: r.oneOf("mode", "encap-mode")}
	if e.Key == "mode" {
		e.Value = r.oneOf("legacy", "switchdev")
	} else {
		e.Value = r.oneOf("none", "basic")
	}
	return e
}

func parseFunction(r *reader) Command {
	r.expect("function", "set")
	port := r.word()
	number, ok := strings.CutPrefix(port, "pf0/")
	vf, err := strconv.Atoi(number)
	if r.err == nil && (!ok || err != nil || vf < 0 || strconv.Itoa(vf) != number) {
		r.fail("bad port %q: want pf0/NUMBER", port)
	}
	return FunctionSet{VF: vf, Cap: r.oneOf("ipsec_packet", "ipsec_crypto"), On: r.oneOf("enable", "disable") == "enable"}
}

func parseEthtool(r *reader) Command {
	r.expect("-K")
	f := FeatureSet{Dev: r.name()}
	r.expect("hw-tc-offload")
	f.On = r.oneOf("on", "off") == "on"
	return f
}
