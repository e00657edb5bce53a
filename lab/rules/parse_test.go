// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var comparable = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func TestParse(t *testing.T) {
	const script = `# a comment
rule example
about What it is.
param strict_sa=1

EBUSY ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x10 reqid 1 mode transport offload packet dev pf0 dir out | no room
not_in_hw tc filter add dev rep0 ingress protocol ip pref 1 flower dst_ip 192.0.2.1 action drop
knob fail_einval=2
send wire src 10.0.0.2 dst 10.0.0.1 esp 0x10 7 bad-icv udp sport 1 dport 4789 vxlan
counter rx_esp +1
out esp 0x10, udp 4789
log first flow offloaded
`
	addr := netip.MustParseAddr
	want := Rule{
		ID: "example", About: "What it is.", Params: []Param{{"strict_sa", "1"}},
		Steps: []Step{
			{Line: 6, Request: &Request{Want{Errno: "EBUSY", Text: "no room"}, StateAdd{
				Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: "esp", SPI: 16, Reqid: 1, Mode: "transport",
				Offload: &Offload{Packet: true, Dev: "pf0", Dir: "out"}}}},
			{Line: 7, Request: &Request{Want{Hardware: "no"}, FilterAdd{
				Dev: "rep0", Pref: 1, Family: 4, Dst: addr("192.0.2.1"), Actions: []Action{{Kind: "drop"}}}}},
			{Line: 8, Request: &Request{Command: KnobSet{Param{"fail_einval", "2"}}}},
			{Line: 9, Send: &Packet{From: Wire, Src: addr("10.0.0.2"), Dst: addr("10.0.0.1"), Proto: "udp", SPort: 1, DPort: 4789,
				VXLAN: true, ESP: &ESP{SPI: 16, Seq: 7, BadICV: true}}},
			{Line: 10, Check: &Check{Counter, "rx_esp", "+1"}},
			{Line: 11, Check: &Check{Out, "", "esp 0x10, udp 4789"}},
			{Line: 12, Check: &Check{Log, "", "first flow offloaded"}},
		},
	}
	have, err := Parse(script)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have, comparable); diff != "" {
		t.Error(diff)
	}
}

func TestParseErrors(t *testing.T) {
	for line, want := range map[string]string{
		"ok":                         "ends too early",
		"fine ip xfrm state flush":   `unknown word "fine"`,
		"ok ip xfrm state flush now": `unknown words "now"`,
		"in_hw ip xfrm state flush":  "is for tc filter add only",
		"ok ip xfrm state add src ::ffff:10.0.0.1 dst ::1":                           "bad address",
		"ok ip xfrm policy add src 10.0.0.1/33 dst 10.0.0.2/32 dir out":              "bad prefix",
		"ok tc filter add dev rep0 ingress protocol ip pref 1 flower dst_ip 1.2.3.4": "needs an action",
		"ok devlink port function set pf0/x ipsec_packet enable":                     "bad port",
		"ok ethtool -K ../pf0 hw-tc-offload on":                                      "bad name",
		"knob ../x=1":                                                                "bad parameter",
		"counter rx_esp 1":                                                           "bad counter",
		"stat x maybe":                                                               "bad stat",
		"in there":                                                                   "bad in",
		"out smoke":                                                                  "none of esp",
		"log":                                                                        "needs a text",
		"send pf src 10.0.0.1 dst fd00::1 udp sport 1 dport 2":                       "two families",
		"send pf src 10.0.0.1 dst 10.0.0.2 tcp sport 1 dport 2 vxlan":                "vxlan goes with udp",
		"send pf src 10.0.0.1 dst 10.0.0.2 esp 1 1 udp sport 1 dport 2":              "esp goes with wire",
		"send pf src 10.0.0.1 dst 10.0.0.2 options frag first udp sport 1 dport 2":                   "do not go together",
		"ok ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 1 mode transport aead x y 128": "bad key",
		"ok ip xfrm state delete src 10.0.0.1 dst 10.0.0.2 proto esp spi 4294967296":                 "bad number",
	} {
		_, err := Parse("rule x\n" + line)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%s:\n have %v\n want line 2: … %s", line, err, want)
		}
	}
	for script, want := range map[string]string{
		"":                                 "no line says rule",
		"rule x":                           "no steps",
		"rule x\nrule y":                   "bad rule id",
		"rule x\nlog y\nparam a=b":         "param after the first step",
		"rule x\nparam steering=../../etc": "bad parameter",
	} {
		if _, err := Parse(script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: have %v, want %s", script, err, want)
		}
	}
}

// TestCommandWords holds commands made at random against what their words are
// read as.
func TestCommandWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCommand(t)
		again, err := ParseCommand(c.String())
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		if diff := cmp.Diff(c, again, comparable); diff != "" {
			t.Fatalf("%v:\n%s", c, diff)
		}
	})
}

func drawCommand(t *rapid.T) Command {
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1, 2:
		return drawState(t)
	case 3, 4:
		return drawPolicy(t)
	case 5, 6:
		return drawFilter(t)
	case 7:
		return StateDelete{drawAddr(t), drawAddr(t), rapid.Uint32().Draw(t, "spi")}
	case 8:
		return PolicyDelete{drawPrefix(t), drawPrefix(t), drawUpper(t), rapid.SampledFrom([]string{"in", "out", "fwd"}).Draw(t, "dir")}
	}
	on := rapid.Bool().Draw(t, "on")
	return rapid.SampledFrom([]Command{StateFlush{}, PolicyFlush{}, LinkSet{"pf0", on}, EswitchSet{"mode", "legacy"},
		EswitchSet{"encap-mode", "basic"}, SteeringSet{"smfs"}, FunctionSet{3, "ipsec_crypto", on}, FeatureSet{"rep0", on},
		FilterDel{"pf0", 0}, FilterDel{"pf0", 7}}).Draw(t, "simple")
}

func drawAddr(t *rapid.T) netip.Addr {
	if rapid.Bool().Draw(t, "v6") {
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "addr"))
		b[0] = 0xfd // not an IPv4 address in IPv6
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr")))
}

func drawPrefix(t *rapid.T) netip.Prefix {
	a := drawAddr(t)
	return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
}

func drawUpper(t *rapid.T) Upper {
	if !rapid.Bool().Draw(t, "upper") {
		return Upper{}
	}
	return Upper{rapid.SampledFrom([]string{"udp", "tcp", "icmp"}).Draw(t, "proto"), rapid.Uint16().Draw(t, "sport"), rapid.Uint16().Draw(t, "dport")}
}

func drawState(t *rapid.T) Command {
	s := StateAdd{
		Update: rapid.Bool().Draw(t, "update"), Src: drawAddr(t), Dst: drawAddr(t), Proto: rapid.SampledFrom([]string{"esp", "ah"}).Draw(t, "proto"),
		SPI: rapid.Uint32().Draw(t, "spi"), Reqid: rapid.Uint32().Draw(t, "reqid"),
		Mode: rapid.SampledFrom([]string{"transport", "tunnel", "beet"}).Draw(t, "mode"), ESN: rapid.Bool().Draw(t, "esn"),
		Window: rapid.Uint32().Draw(t, "window"),
	}
	if rapid.Bool().Draw(t, "aead") {
		s.Algs = []Alg{{"aead", "rfc4106(gcm(aes))", "0x00", rapid.IntRange(0, 65535).Draw(t, "icv")}}
	} else {
		s.Algs = []Alg{{Type: "enc", Name: "cbc(aes)", Key: "0x01"}, {Type: "auth", Name: "hmac(sha1)", Key: "0x02"}}
	}
	if rapid.Bool().Draw(t, "encap") {
		s.Encap = &Encap{"espinudp", 4500, 4501, drawAddr(t)}
	}
	if u := drawUpper(t); u.Proto != "" {
		s.Sel = &u
	}
	if rapid.Bool().Draw(t, "limit") {
		s.Limits = []Limit{{"byte-soft", rapid.Uint64().Draw(t, "soft")}, {"packet-hard", 0}}
	}
	if rapid.Bool().Draw(t, "offload") {
		s.Offload = &Offload{rapid.Bool().Draw(t, "packet"), "pf0", rapid.SampledFrom([]string{"in", "out"}).Draw(t, "dir")}
	}
	return s
}

func drawPolicy(t *rapid.T) Command {
	p := PolicyAdd{
		Update: rapid.Bool().Draw(t, "update"), Src: drawPrefix(t), Dst: drawPrefix(t), Upper: drawUpper(t),
		Dir: rapid.SampledFrom([]string{"in", "out", "fwd"}).Draw(t, "dir"), Sub: rapid.Bool().Draw(t, "sub"),
		Block: rapid.Bool().Draw(t, "block"), Priority: rapid.Uint32().Draw(t, "priority"),
	}
	if rapid.Bool().Draw(t, "offload") {
		p.Offload = &Offload{rapid.Bool().Draw(t, "packet"), "pf0", p.Dir}
	}
	for range rapid.IntRange(0, 2).Draw(t, "templates") {
		p.Tmpls = append(p.Tmpls, Tmpl{drawAddr(t), drawAddr(t), rapid.Uint32().Draw(t, "reqid"), "transport"})
	}
	return p
}

func drawFilter(t *rapid.T) Command {
	f := FilterAdd{Dev: "rep0", Pref: rapid.Uint16().Draw(t, "pref"), SkipSW: rapid.Bool().Draw(t, "skip_sw"),
		Family: rapid.SampledFrom([]int{4, 6}).Draw(t, "family")}
	tunnel := &Tunnel{drawAddr(t), drawAddr(t), rapid.Uint32().Draw(t, "id"), rapid.Uint16().Draw(t, "port")}
	if rapid.Bool().Draw(t, "dst") {
		f.Dst = drawAddr(t)
	}
	if rapid.Bool().Draw(t, "tunnel") {
		f.Tunnel = tunnel
	}
	all := []Action{{Kind: "drop"}, {Kind: "decap"}, {Kind: "encap", Set: tunnel}, {Kind: "redirect", Dev: "pf0"}, {Kind: "mirror", Dev: "rep1"}}
	f.Actions = rapid.SliceOfN(rapid.SampledFrom(all), 1, 4).Draw(t, "actions")
	return f
}

func FuzzParse(f *testing.F) {
	entries, err := files.ReadDir(".")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		for _, s := range r.Steps {
			switch {
			case s.Request != nil:
				checkRoundTrip(t, s.Request.Command)
			case s.Send != nil:
				again, err := parsePacket(s.Send.String())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(*s.Send, again, comparable); diff != "" {
					t.Error(diff)
				}
			}
		}
	})
}
