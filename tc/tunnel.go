// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"encoding/binary"
	"iter"
	"net/netip"
)

// TunnelRule is one use of a tunnel by a flower rule in hardware, with the
// packets that the hardware has counted for it. mlx5 reads its counters about
// once a second (MLX5_FC_STATS_PERIOD in fs_counters.c), so that the figure may
// be that old.
type TunnelRule struct {
	ID       RuleID
	Dev      int        // that holds the rule; of a shared block the smallest
	Encap    bool       // it puts the header on; else it matches on the header
	Src, Dst netip.Addr // outer addresses; not valid where the rule does not say
	Port     uint16     // outer UDP destination port; 0 where the rule does not say
	Packets  uint64
}

// RuleID tells rules apart for as long as they live. A rule that takes the place
// of another one has the cookie of its own flow, if Open vSwitch made it.
type RuleID struct {
	Ifindex      int32
	Parent, Info uint32 // hook; priority and protocol
	Chain        uint32
	Handle       uint32
	Nth          uint8 // which of the rule's actions
	Cookie       [16]byte
}

// Values of linux/pkt_cls.h, linux/tc_act/tc_tunnel_key.h and linux/gen_stats.h.
const (
	attrChain = 11 // TCA_CHAIN

	flowerAct     = 3  // TCA_FLOWER_ACT
	flowerFlags   = 22 // TCA_FLOWER_FLAGS
	flowerEncSrc4 = 27 // TCA_FLOWER_KEY_ENC_IPV4_SRC
	flowerEncDst4 = 29
	flowerEncSrc6 = 31
	flowerEncDst6 = 33
	flowerEncPort = 45 // TCA_FLOWER_KEY_ENC_UDP_DST_PORT

	actKind    = 1 // TCA_ACT_KIND
	actOptions = 2
	actStats   = 4
	actCookie  = 6

	tunnelParms   = 2 // TCA_TUNNEL_KEY_PARMS: struct tcf_t, then t_action
	tunnelSrc4    = 3
	tunnelDst4    = 4
	tunnelSrc6    = 5
	tunnelDst6    = 6
	tunnelPort    = 9
	tunnelActAt   = 20 // offset of t_action in struct tc_tunnel_key
	tunnelActsSet = 1  // TCA_TUNNEL_KEY_ACT_SET

	statsBasicHW   = 7 // TCA_STATS_BASIC_HW: bytes, and packets in 32 bits
	statsPad       = 6
	statsPackets64 = 8 // TCA_STATS_PKT64: follows what does not fit in 32 bits
)

// next splits off the first attribute; ok is false at the end.
func next(b []byte) (typ uint16, v, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, nil, false
	}
	size := int(binary.NativeEndian.Uint16(b))
	if size < 4 || size > len(b) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[2:]) & attrTypeMask, b[4:size], b[min((size+3)&^3, len(b)):], true
}

// appendTunnels appends the tunnels of a full filter message that is in
// hardware. What it does not understand it leaves out: these are figures, and
// no safety question.
func appendTunnels(to []TunnelRule, b []byte, dev int) []TunnelRule {
	m, attrs, err := decodeTcmsg(b)
	if err != nil || string(findString(attrs, attrKind)) != "flower" {
		return to
	}
	options, found := find(attrs, attrOptions)
	if !found || findUint32(options, flowerFlags)&flagInHW == 0 {
		return to
	}
	id := RuleID{Ifindex: m.ifindex, Parent: m.parent, Info: m.info, Chain: findUint32(attrs, attrChain), Handle: m.handle}
	acts, _ := find(options, flowerAct)
	packets := id.sum(acts)
	matched := TunnelRule{ID: id, Dev: dev, Src: address(options, flowerEncSrc4, flowerEncSrc6),
		Dst: address(options, flowerEncDst4, flowerEncDst6), Port: port(options, flowerEncPort), Packets: packets}
	if matched.Src.IsValid() || matched.Dst.IsValid() {
		to = append(to, matched)
	}
	for _, act := range each(acts) {
		id.Nth++
		to = appendEncap(to, act, id, dev, packets)
	}
	return to
}

// sum returns the packets that the hardware has counted for a rule, and takes
// its cookie. Of the actions only some keep count, tunnel_key does not, so it is
// the largest figure; and Open vSwitch puts its cookie on one of them.
func (id *RuleID) sum(acts []byte) (packets uint64) {
	for _, act := range each(acts) {
		packets = max(packets, packetsHW(act))
		if c, found := find(act, actCookie); found {
			copy(id.Cookie[:], c)
		}
	}
	return packets
}

// each lists the payloads of attributes, with their types.
func each(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for {
			typ, v, rest, ok := next(b)
			if !ok || !yield(typ, v) {
				return
			}
			b = rest
		}
	}
}

// appendEncap appends what an action tunnel_key set puts on.
func appendEncap(to []TunnelRule, act []byte, id RuleID, dev int, packets uint64) []TunnelRule {
	if string(findString(act, actKind)) != "tunnel_key" {
		return to
	}
	options, _ := find(act, actOptions)
	parms, _ := find(options, tunnelParms)
	if len(parms) < tunnelActAt+4 || binary.NativeEndian.Uint32(parms[tunnelActAt:]) != tunnelActsSet {
		return to
	}
	return append(to, TunnelRule{ID: id, Dev: dev, Encap: true, Src: address(options, tunnelSrc4, tunnelSrc6),
		Dst: address(options, tunnelDst4, tunnelDst6), Port: port(options, tunnelPort), Packets: packets})
}

// packetsHW returns the packets that the hardware has counted for an action.
func packetsHW(act []byte) (n uint64) {
	stats, _ := find(act, actStats)
	hardware := false
	for typ, v := range each(stats) {
		switch {
		case typ == statsBasicHW && len(v) >= 12:
			n, hardware = uint64(binary.NativeEndian.Uint32(v[8:])), true
		case typ == statsPackets64 && len(v) >= 8 && hardware:
			return binary.NativeEndian.Uint64(v)
		case hardware && typ != statsPad:
			return n
		}
	}
	return n
}

func address(options []byte, v4, v6 uint16) netip.Addr {
	if v, found := find(options, v4); found && len(v) == 4 {
		return netip.AddrFrom4([4]byte(v))
	}
	if v, found := find(options, v6); found && len(v) == 16 {
		return netip.AddrFrom16([16]byte(v))
	}
	return netip.Addr{}
}

func port(options []byte, typ uint16) uint16 {
	if v, found := find(options, typ); found && len(v) >= 2 {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}
