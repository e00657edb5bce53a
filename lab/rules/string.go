// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
)

// words collects the parts of a command.
type words []string

// add appends one part, made as by fmt.Sprintf.
func (w *words) add(format string, args ...any) { *w = append(*w, fmt.Sprintf(format, args...)) }

// addIf appends a part if cond is true.
func (w *words) addIf(cond bool, format string, args ...any) {
	if cond {
		w.add(format, args...)
	}
}

// String returns the parts with spaces between them.
func (w words) String() string { return strings.Join(w, " ") }

// addVerb returns the verb of ip xfrm that puts an object in.
func addVerb(update bool) string {
	if update {
		return "update"
	}
	return "add"
}

// String returns the line of a script, as ip-xfrm(8) has it.
func (s StateAdd) String() string {
	var w words
	w.add("ip xfrm state %s src %v dst %v proto %s spi %#x", addVerb(s.Update), s.Src, s.Dst, s.Proto, s.SPI)
	w.addIf(s.Reqid != 0, "reqid %d", s.Reqid)
	w.add("mode %s", s.Mode)
	for _, a := range s.Algs {
		w.add("%s %s %s", a.Type, a.Name, a.Key)
		w.addIf(a.Type == "aead", "%d", a.ICV)
	}
	w.addIf(s.ESN, "flag esn")
	w.addIf(s.Window != 0, "replay-window %d", s.Window)
	if e := s.Encap; e != nil {
		w.add("encap %s %d %d %v", e.Type, e.SPort, e.DPort, e.Addr)
	}
	if s.Sel != nil {
		w.add("sel %v", *s.Sel)
	}
	for _, l := range s.Limits {
		w.add("limit %s %d", l.Kind, l.Value)
	}
	if s.Offload != nil {
		w.add("%v dir %s", *s.Offload, s.Offload.Dir)
	}
	return w.String()
}

// String gives the upper layer of a selector, "" for any.

// String returns the upper-layer part of a selector, as ip-xfrm(8) has it.
func (u Upper) String() string {
	var w words
	w.addIf(u.Proto != "", "proto %s", u.Proto)
	w.addIf(u.SPort != 0, "sport %d", u.SPort)
	w.addIf(u.DPort != 0, "dport %d", u.DPort)
	return w.String()
}

// String gives the request for offload without the direction.

// String returns the offload part of a state or policy, as ip-xfrm(8) has it.
func (o Offload) String() string {
	if o.Packet {
		return "offload packet dev " + o.Dev
	}
	return "offload dev " + o.Dev
}

// String returns the line of a script, as ip-xfrm(8) has it.
func (s StateDelete) String() string {
	return fmt.Sprintf("ip xfrm state delete src %v dst %v proto esp spi %#x", s.Src, s.Dst, s.SPI)
}

// String returns the line of a script, as ip-xfrm(8) has it.
func (StateFlush) String() string { return "ip xfrm state flush" }

// String returns the line of a script, as ip-xfrm(8) has it.
func (p PolicyAdd) String() string {
	var w words
	w.add("ip xfrm policy %s src %v dst %v", addVerb(p.Update), p.Src, p.Dst)
	w.addIf(p.Upper.Proto != "", "%v", p.Upper)
	w.add("dir %s", p.Dir)
	w.addIf(p.Sub, "ptype sub")
	w.addIf(p.Priority != 0, "priority %d", p.Priority)
	w.addIf(p.Block, "action block")
	if p.Offload != nil {
		w.add("%v", *p.Offload)
	}
	for _, t := range p.Tmpls {
		w.add("tmpl src %v dst %v proto esp reqid %d mode %s", t.Src, t.Dst, t.Reqid, t.Mode)
	}
	return w.String()
}

// String returns the line of a script, as ip-xfrm(8) has it.
func (p PolicyDelete) String() string {
	var w words
	w.add("ip xfrm policy delete src %v dst %v", p.Src, p.Dst)
	w.addIf(p.Upper.Proto != "", "%v", p.Upper)
	w.add("dir %s", p.Dir)
	return w.String()
}

// String returns the line of a script, as ip-xfrm(8) has it.
func (PolicyFlush) String() string { return "ip xfrm policy flush" }

// String returns the line of a script, as tc-flower(8) has it.
func (f FilterAdd) String() string {
	var w words
	w.add("tc filter add dev %s ingress", f.Dev)
	w.add("protocol %s pref %d flower", choose(f.Family == 6, "ipv6", "ip"), f.Pref)
	w.addIf(f.SkipSW, "skip_sw")
	w.addIf(f.Dst.IsValid(), "dst_ip %v", f.Dst)
	if t := f.Tunnel; t != nil {
		w.add("enc_src_ip %v enc_dst_ip %v enc_key_id %d enc_dst_port %d", t.Src, t.Dst, t.ID, t.DPort)
	}
	for _, a := range f.Actions {
		w.add("action %v", a)
	}
	return w.String()
}

// String gives the action as tc has it after action.

// String returns the action part of a filter, as tc(8) has it.
func (a Action) String() string {
	switch a.Kind {
	case "encap":
		t := a.Set
		return fmt.Sprintf("tunnel_key set src_ip %v dst_ip %v id %d dst_port %d pipe", t.Src, t.Dst, t.ID, t.DPort)
	case "decap":
		return "tunnel_key unset pipe"
	case "redirect":
		return "mirred egress redirect dev " + a.Dev
	case "mirror":
		return "mirred egress mirror dev " + a.Dev + " pipe"
	}
	return a.Kind
}

// String returns the line of a script, as tc(8) has it.
func (d FilterDel) String() string {
	var w words
	w.add("tc filter del dev %s ingress", d.Dev)
	w.addIf(d.Pref != 0, "pref %d", d.Pref)
	return w.String()
}

// String returns the line of a script, as ip-link(8) has it.
func (l LinkSet) String() string {
	return fmt.Sprintf("ip link set %s %s", l.Dev, choose(l.Up, "up", "down"))
}

// String returns the line of a script, as devlink-dev(8) has it.
func (e EswitchSet) String() string {
	return fmt.Sprintf("devlink dev eswitch set pf0 %s %s", e.Key, e.Value)
}

// String returns the line of a script, as devlink-dev(8) has it.
func (s SteeringSet) String() string {
	return fmt.Sprintf("devlink dev param set pf0 name flow_steering_mode value %s cmode runtime", s.Value)
}

// String returns the line of a script, as devlink-port(8) has it.
func (f FunctionSet) String() string {
	return fmt.Sprintf("devlink port function set pf0/%d %s %s", f.VF, f.Cap, choose(f.On, "enable", "disable"))
}

// String returns the line of a script, as ethtool(8) has it.
func (f FeatureSet) String() string {
	return fmt.Sprintf("ethtool -K %s hw-tc-offload %s", f.Dev, choose(f.On, "on", "off"))
}

// String returns the line of a script that turns a knob of the simulated NIC.
func (k KnobSet) String() string { return fmt.Sprintf("knob %s=%s", k.Name, k.Value) }

// choose returns yes or no, as cond is.
func choose(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}
