// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
)

// parsePacket reads what follows send.
func parsePacket(line string) (Packet, error) {
	r := newReader(line)
	p := Packet{From: Port(r.oneOf(string(VF), string(PF), string(Wire)))}
	r.expect("src")
	p.Src = r.addr()
	r.expect("dst")
	p.Dst = r.addr()
	if r.accept("vlan") {
		p.VLAN = r.uint16()
	}
	p.Options = r.accept("options")
	if r.accept("frag") {
		p.Frag = r.oneOf("first", "later")
	}
	if r.accept("esp") {
		p.ESP = &ESP{SPI: r.uint32(), Seq: r.uint(64), BadICV: r.accept("bad-icv")}
	}
	parsePayload(r, &p)
	if err := r.done(); err != nil {
		return Packet{}, err
	}
	return p, p.validate()
}

func parsePayload(r *reader, p *Packet) {
	p.Proto = r.oneOf("udp", "tcp")
	r.expect("sport")
	p.SPort = r.uint16()
	r.expect("dport")
	p.DPort = r.uint16()
	p.VXLAN = r.accept("vxlan")
}

func (p Packet) validate() error {
	switch {
	case p.Src.Is4() != p.Dst.Is4():
		return fmt.Errorf("addresses %v and %v are of two families", p.Src, p.Dst)
	case p.ESP != nil && (p.From != Wire || p.Options || p.Frag != "" || p.VLAN != 0):
		return fmt.Errorf("esp goes with wire alone")
	case p.VXLAN && p.Proto != "udp":
		return fmt.Errorf("vxlan goes with udp")
	case p.VLAN > 4094:
		return fmt.Errorf("no such vlan %d", p.VLAN)
	case p.Frag != "" && p.Options:
		return fmt.Errorf("frag and options do not go together")
	}
	return nil
}

// String gives the packet as a script has it after send.
func (p Packet) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s src %v dst %v", p.From, p.Src, p.Dst)
	if p.VLAN != 0 {
		fmt.Fprintf(&b, " vlan %d", p.VLAN)
	}
	if p.Options {
		b.WriteString(" options")
	}
	if p.Frag != "" {
		b.WriteString(" frag " + p.Frag)
	}
	if p.ESP != nil {
		fmt.Fprintf(&b, " esp %#x %d", p.ESP.SPI, p.ESP.Seq)
		if p.ESP.BadICV {
			b.WriteString(" bad-icv")
		}
	}
	fmt.Fprintf(&b, " %s sport %d dport %d", p.Proto, p.SPort, p.DPort)
	if p.VXLAN {
		b.WriteString(" vxlan")
	}
	return b.String()
}

// parseFrames reads what follows out: none, or frames with commas between.
func parseFrames(text string) ([]Frame, error) {
	if text == "none" {
		return nil, nil
	}
	var frames []Frame
	for part := range strings.SplitSeq(text, ",") {
		f, err := parseFrame(part)
		if err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	return frames, nil
}

func parseFrame(text string) (Frame, error) {
	r := newReader(text)
	f := Frame{Proto: r.oneOf("esp", "udp", "tcp", "other")}
	switch f.Proto {
	case "esp":
		f.SPI = r.uint32()
	case "udp", "tcp":
		f.DPort = r.uint16()
	}
	return f, r.done()
}

// String gives the frame as a script has it after out.
func (f Frame) String() string {
	switch f.Proto {
	case "esp":
		return fmt.Sprintf("esp %#x", f.SPI)
	case "udp", "tcp":
		return fmt.Sprintf("%s %d", f.Proto, f.DPort)
	}
	return f.Proto
}

func framesString(frames []Frame) string {
	if len(frames) == 0 {
		return "none"
	}
	texts := make([]string, len(frames))
	for i, f := range frames {
		texts[i] = f.String()
	}
	return strings.Join(texts, ", ")
}
