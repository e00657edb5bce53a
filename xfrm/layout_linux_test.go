// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
)

// The structs of vishvananda/netlink are a second opinion on the layout.

func TestSizes(t *testing.T) {
	for name, size := range map[string][2]int{
		"xfrm_usersa_info":      {saLen, nl.SizeofXfrmUsersaInfo},
		"xfrm_usersa_id":        {saidLen, nl.SizeofXfrmUsersaId},
		"xfrm_selector":         {selLen, nl.SizeofXfrmSelector},
		"xfrm_userpolicy_info":  {polLen, nl.SizeofXfrmUserpolicyInfo},
		"xfrm_userpolicy_id":    {polidLen, nl.SizeofXfrmUserpolicyId},
		"xfrm_user_tmpl":        {tmplLen, nl.SizeofXfrmUserTmpl},
		"xfrm_user_expire":      {expireLen, nl.SizeofXfrmUserExpire},
		"xfrm_algo_aead":        {aeadKey, nl.SizeofXfrmAlgoAEAD},
		"xfrm_lifetime_cfg":     {limitsLen, nl.SizeofXfrmLifetimeCfg},
		"xfrm_replay_state_esn": {esnLen, nl.SizeofXfrmReplayStateEsn},
	} {
		if size[0] != size[1] {
			t.Errorf("struct %s: %d bytes, want %d", name, size[0], size[1])
		}
	}
}

func TestSAInfoLayout(t *testing.T) {
	for _, host := range []string{"10.0.0.", "fd00::"} {
		want := &SA{
			Src: netip.MustParseAddr(host + "1"), Dst: netip.MustParseAddr(host + "2"),
			SPI: 0x12345678, Reqid: 0x90abcdef, Mode: Tunnel, ESN: true,
		}
		info := nl.DeserializeXfrmUsersaInfo(appendSAInfo(nil, want))
		var theirs nl.XfrmUsersaInfo
		theirs.Family = familyOf(want.Dst)
		theirs.Id.Daddr.FromIP(net.IP(want.Dst.AsSlice()))
		theirs.Saddr.FromIP(net.IP(want.Src.AsSlice()))
		theirs.Id.Spi = nl.Swap32(want.SPI)
		theirs.Id.Proto = protoESP
		theirs.Reqid, theirs.Mode, theirs.Flags = want.Reqid, uint8(Tunnel), nl.XFRM_STATE_ESN
		theirs.Lft = nl.XfrmLifetimeCfg{
			SoftByteLimit: nl.XFRM_INF, HardByteLimit: nl.XFRM_INF,
			SoftPacketLimit: nl.XFRM_INF, HardPacketLimit: nl.XFRM_INF,
		}
		if diff := cmp.Diff(&theirs, info); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
	}
}

func TestSAStatsLayout(t *testing.T) {
	theirs := nl.XfrmUsersaInfo{
		Family: familyIPv4, Curlft: nl.XfrmLifetimeCur{Bytes: 1, Packets: 2, AddTime: 3, UseTime: 4},
		Stats: nl.XfrmStats{ReplayWindow: 5, Replay: 6, IntegrityFailed: 7}, ReplayWindow: 32,
	}
	var s SA
	decodeSAInfo(theirs.Serialize(), &s)
	want := Stats{Bytes: 1, Packets: 2, Added: 3, Used: 4, ReplayWindow: 5, Replay: 6, Auth: 7}
	if s.Stats != want || s.Window != 32 {
		t.Errorf("%+v, window %d", s.Stats, s.Window)
	}
}

func TestPolicyInfoLayout(t *testing.T) {
	p := &Policy{
		Dir: Out, Priority: 0x01020304, Action: Block,
		Sel: Selector{
			Src: netip.MustParsePrefix("fd00::/64"), Dst: netip.MustParsePrefix("fd01::2/128"),
			Proto: 17, SrcPort: 0x1122, DstPort: 4789,
		},
	}
	info := nl.DeserializeXfrmUserpolicyInfo(body(t, appendPolicy(nil, header{}, p)))
	var theirs nl.XfrmUserpolicyInfo
	theirs.Sel = nl.XfrmSelector{
		Family: familyIPv6, PrefixlenS: 64, PrefixlenD: 128, Proto: 17,
		Dport: nl.Swap16(4789), DportMask: 0xffff, Sport: nl.Swap16(0x1122), SportMask: 0xffff,
	}
	theirs.Sel.Saddr.FromIP(net.ParseIP("fd00::"))
	theirs.Sel.Daddr.FromIP(net.ParseIP("fd01::2"))
	theirs.Priority, theirs.Dir, theirs.Action = p.Priority, uint8(Out), uint8(Block)
	theirs.Lft = nl.XfrmLifetimeCfg{
		SoftByteLimit: nl.XFRM_INF, HardByteLimit: nl.XFRM_INF,
		SoftPacketLimit: nl.XFRM_INF, HardPacketLimit: nl.XFRM_INF,
	}
	if diff := cmp.Diff(&theirs, info); diff != "" {
		t.Error(diff)
	}
}

func TestTemplateLayout(t *testing.T) {
	tmpl := &Template{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Reqid: 5, Mode: Tunnel}
	b := appendTemplate(nil, tmpl, familyIPv4)
	got := nl.DeserializeXfrmUserTmpl(b[attrHeaderLen:])
	var theirs nl.XfrmUserTmpl
	theirs.XfrmId.Daddr.FromIP(net.ParseIP("10.0.0.2"))
	theirs.Saddr.FromIP(net.ParseIP("10.0.0.1"))
	theirs.XfrmId.Proto, theirs.Family, theirs.Reqid, theirs.Mode = protoESP, familyIPv4, 5, uint8(Tunnel)
	theirs.Aalgos, theirs.Ealgos, theirs.Calgos = anyAlgorithm, anyAlgorithm, anyAlgorithm
	if diff := cmp.Diff(&theirs, got); diff != "" {
		t.Error(diff)
	}
}

func TestAEADLayout(t *testing.T) {
	b := appendAEAD(nil, testKey(t, 3))
	got := nl.DeserializeXfrmAlgoAEAD(b[attrHeaderLen:])
	name := string(got.AlgName[:len(algGCM)+1])
	if name != algGCM+"\x00" || got.AlgKeyLen != 288 || got.AlgICVLen != 128 || len(got.AlgKey) != KeyLen {
		t.Errorf("%q %+v", name, got)
	}
}
