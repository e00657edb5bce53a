// SPDX-License-Identifier: Apache-2.0

package tc

import "encoding/binary"

// rule is what the scanner looks at in an RTM_NEWTFILTER message.
type rule struct {
	flower bool
	head   bool // announces a priority; it is no rule
	inHW   bool
}

// decodeRule decodes a filter message, terse or full.
func decodeRule(b []byte) (rule, error) {
	m, attrs, err := decodeTcmsg(b)
	if err != nil {
		return rule{}, err
	}
	kind := findString(attrs, attrKind)
	options, found := find(attrs, attrOptions)
	r := rule{flower: string(kind) == "flower", head: m.handle == 0 && !found}
	if typ := flagsAttr(kind); typ != 0 {
		r.inHW = findUint32(options, typ)&flagInHW != 0
	}
	return r, nil
}

// flagsAttr returns the attribute of a classifier's options that holds its
// TCA_CLS_FLAGS_*, or 0 for one that cannot be offloaded.
func flagsAttr(kind []byte) uint16 {
	switch string(kind) {
	case "flower":
		return 22 // TCA_FLOWER_FLAGS
	case "matchall":
		return 3 // TCA_MATCHALL_FLAGS
	case "u32":
		return 11 // TCA_U32_FLAGS
	case "bpf":
		return 9 // TCA_BPF_FLAGS_GEN
	}
	return 0
}

// count enters r into the figures.
func (r rule) count(t *tally) {
	if r.head {
		return
	}
	t.rules++
	switch {
	case r.inHW && r.flower:
		t.inHW++
	case r.inHW:
		t.others++
	}
}

// tally counts the rules of one hook.
type tally struct{ rules, inHW, others int }

// qdisc is what the scanner looks at in an RTM_NEWQDISC message.
type qdisc struct {
	ifindex         int
	clsact          bool   // clsact, not ingress: it has an egress hook too
	ingress, egress uint32 // indexes of shared blocks, or 0
}

// decodeQdisc decodes a qdisc message; ok is false when it is not one that
// holds ingress rules.
func decodeQdisc(b []byte) (q qdisc, ok bool, err error) {
	m, attrs, err := decodeTcmsg(b)
	if err != nil || m.parent != parentHook {
		return qdisc{}, false, err
	}
	return qdisc{
		ifindex: int(m.ifindex),
		clsact:  string(findString(attrs, attrKind)) == "clsact",
		ingress: findUint32(attrs, attrIngressBlock),
		egress:  findUint32(attrs, attrEgressBlock),
	}, true, nil
}

// hook is a place that rules are attached to: one side of a device, or a block
// that several devices share.
type hook struct {
	ifindex int32  // ifindexBlock: parent is the index of a block
	parent  uint32 // TC_H_CLSACT's ingress or egress
}

// request builds an RTM_GETTFILTER dump request for h.
func (h hook) request(terse bool) []byte {
	b := tcmsg{ifindex: h.ifindex, parent: h.parent}.append(make([]byte, 0, sizeofTcmsg+12))
	if !terse {
		return b
	}
	b = binary.NativeEndian.AppendUint16(b, 12)
	b = binary.NativeEndian.AppendUint16(b, attrDumpFlags)
	b = binary.NativeEndian.AppendUint32(b, dumpTerse) // struct nla_bitfield32: value
	return binary.NativeEndian.AppendUint32(b, dumpTerse)
}

// hooks lists the hooks of a qdisc. An ingress qdisc answers for any parent
// with its only block (ingress_find in sch_ingress.c), so it must not be asked
// for egress.
func (q qdisc) hooks() []hook {
	hs := []hook{side(q.ifindex, parentIngress, q.ingress)}
	if q.clsact {
		hs = append(hs, side(q.ifindex, parentEgress, q.egress))
	}
	return hs
}

func side(ifindex int, parent, block uint32) hook {
	if block != 0 {
		return hook{ifindexBlock, block}
	}
	return hook{int32(ifindex), parent}
}

// place is a hook and the devices whose rules it holds.
type place struct {
	hook
	devs []int
}

// places returns the hooks of the wanted devices, each shared block once, in
// the order of the qdiscs.
func places(qdiscs []qdisc, ifindexes []int) []place {
	wanted := make(map[int]bool, len(ifindexes))
	for _, i := range ifindexes {
		wanted[i] = true
	}
	at := make(map[hook]int)
	var ps []place
	for _, q := range qdiscs {
		if !wanted[q.ifindex] {
			continue
		}
		for _, h := range q.hooks() {
			i, known := at[h]
			if !known {
				i = len(ps)
				at[h] = i
				ps = append(ps, place{hook: h})
			}
			ps[i].devs = append(ps[i].devs, q.ifindex)
		}
	}
	return ps
}

// add enters the tally of p.
func (r *Report) add(p place, t tally) {
	r.Rules += t.rules
	r.Total += t.inHW
	r.Others += t.others
	if t.inHW == 0 {
		return
	}
	if r.ByDev == nil {
		r.ByDev = make(map[int]int)
	}
	for _, dev := range p.devs {
		r.ByDev[dev] += t.inHW
	}
}
