// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"net/netip"
	"testing"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/xfrm"
)

// racing is a kernel in which an IKE daemon makes an SA and its policy while it is
// being read: the SAs of the first reading do not have it yet.
type racing struct {
	Kernel
	sa     xfrm.SA
	policy xfrm.Policy
	read   int
}

func (k *racing) SAs(context.Context) ([]xfrm.SA, error) {
	k.read++
	if k.read == 1 {
		return nil, nil
	}
	return []xfrm.SA{k.sa}, nil
}

func (k *racing) Policies(context.Context) ([]xfrm.Policy, error) {
	return []xfrm.Policy{k.policy}, nil
}

// A policy of IKE's without an SA is what clear text goes through, and is taken away
// at once: one that has its SA must never be taken for that.
func TestReadKernelBesideIKE(t *testing.T) {
	pair := Pair{Local: netip.MustParseAddr("10.0.0.1"), Remote: netip.MustParseAddr("10.0.0.2"), Port: 4789}
	reqid := negotiatedReqid(pair, childOut)
	k := &racing{
		sa: xfrm.SA{Src: pair.Local, Dst: pair.Remote, SPI: 0xc0000001, Dir: xfrm.Out, Reqid: reqid},
		policy: xfrm.Policy{
			Sel: xfrm.Selector{Src: netip.PrefixFrom(pair.Local, 32), Dst: netip.PrefixFrom(pair.Remote, 32), Proto: udp, DstPort: pair.Port},
			Dir: xfrm.Out, Action: xfrm.Allow, Tmpl: &xfrm.Template{Reqid: reqid}, Exotic: true,
		},
	}
	ob, err := readKernel(t.Context(), k, &ovsdb.Snapshot{}, reqids{})
	if err != nil {
		t.Fatal(err)
	}
	if len(ob.Policies) != 1 || len(ob.SAs) != 1 {
		t.Errorf("saw %d policies and %d SAs of the pair, want 1 and 1", len(ob.Policies), len(ob.SAs))
	}
	if k.read != 2 {
		t.Errorf("SAs were read %d times, want 2", k.read)
	}
}
