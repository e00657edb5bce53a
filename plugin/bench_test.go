// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// BenchmarkPlan measures what a round thinks: intent, plan and check. "first" is
// a host on which nothing stands yet, "settled" one that has it all.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		in, none := crowd(n)
		plan := plugin.MakePlan(plugin.BuildIntent(in), none)
		all := carriedOut(plan, none)
		settled := in
		settled.Snapshot.Host.HWOffload = "true"
		settled.Spent = func(xfrm.Fingerprint) bool { return true }
		all.Spent = settled.Spent
		sas := make(map[xfrm.SAID]*xfrm.SA, len(all.SAs))
		for i := range all.SAs {
			sas[all.SAs[i].ID()] = &all.SAs[i]
		}
		settled.Installed = func(id xfrm.SAID) (*xfrm.SA, bool) { s, is := sas[id]; return s, is }
		if rest := plugin.MakePlan(plugin.BuildIntent(settled), all); len(rest.Steps) > 0 {
			b.Fatalf("%d steps are left, the first: %s", len(rest.Steps), rest.Steps[0].Text(func(int) string { return "pf0" }))
		}
		b.Run(fmt.Sprintf("first/%d", n), func(b *testing.B) { think(b, n, in, none) })
		b.Run(fmt.Sprintf("settled/%d", n), func(b *testing.B) { think(b, n, settled, all) })
	}
}

func think(b *testing.B, n int, in plugin.Input, ob plugin.Observed) {
	b.ReportAllocs()
	for b.Loop() {
		intent := plugin.BuildIntent(in)
		if v := plugin.Check(intent, ob, plugin.MakePlan(intent, ob)); v != nil {
			b.Fatal(v)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/tunnel")
}

// BenchmarkOneMore measures what a pair by IKE costs this program when n stand already:
// the round that gives it to the IKE daemon, and the one that finds it encrypted. The
// kernel, the database and the IKE daemon are fakes whose own time is in it.
func BenchmarkOneMore(b *testing.B) {
	for _, n := range []int{100, 400, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := standardRig()
			for i := range n {
				r.OVS.SetPort(byIKE(i))
			}
			oneMore(b, r, fmt.Sprintf("ike%d", n-1))
			for i := 0; b.Loop(); i++ {
				name := fmt.Sprintf("ike%d", n+i)
				r.OVS.SetPort(byIKE(n + i))
				oneMore(b, r, name)
				b.StopTimer()
				r.OVS.DelPort(name)
				if err := r.settle(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// oneMore brings a new port to the state encrypted.
func oneMore(b *testing.B, r *rig, name string) {
	r.round()
	b.StopTimer()
	if err := r.IKE.Answer(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	r.round()
	if ports := r.d.Last().Ports; !slices.ContainsFunc(ports, func(p plugin.PortStatus) bool { return p.Name == name && p.State == plugin.StateEncrypted }) {
		b.Fatalf("%s is not encrypted:\n%s", name, r.statusText())
	}
}

func byIKE(i int) ovsdb.Tunnel {
	t := plain(fmt.Sprintf("ike%d", i), "10.0.0.1", netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String())
	t.IPsec, t.Mode, t.Auth = true, ovsdb.Transport, ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret("swordfish")}
	return t
}

// crowd returns a host with n tunnels, and what stands there: nothing.
func crowd(n int) (plugin.Input, plugin.Observed) {
	local := netip.MustParseAddr("10.0.0.1")
	pf := devlink.PF{Link: devlink.Link{Ifindex: 4, Name: "pf0"}, Handle: "pci/0000:08:00.0", Driver: "mlx5_core", Up: true,
		ESPOffload: true, TCOffload: true, EswitchMode: "switchdev", EncapMode: "basic", Steering: "dmfs"}
	in := plugin.Input{
		Facts: devlink.Facts{PFs: []devlink.PF{pf}, Addrs: map[netip.Addr]devlink.Link{local: pf.Link}},
		Keys:  make(map[string]plugin.KeyResult, n), Settings: plugin.Settings{GateAuto: true, GuardAuto: true, GuardPorts: []uint16{4789}},
		Installed: func(xfrm.SAID) (*xfrm.SA, bool) { return nil, false },
		Spent:     func(xfrm.Fingerprint) bool { return false },
	}
	for i := range n {
		name := fmt.Sprintf("vx%d", i)
		print := xfrm.Fingerprint(sha256.Sum256([]byte(name)))
		in.Snapshot.Tunnels = append(in.Snapshot.Tunnels, ovsdb.Tunnel{Name: name, Type: "vxlan", Local: local, DstPort: 4789,
			Remote: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), IPsec: true, Mode: ovsdb.Transport, Keys: name})
		in.Keys[name] = plugin.KeyResult{Set: plugin.KeySet{Name: name, InSPI: binary.BigEndian.Uint32(print[:]) | 0x100,
			OutSPI: binary.BigEndian.Uint32(print[4:]) | 0x100, OutPrint: print}}
	}
	slices.SortFunc(in.Snapshot.Tunnels, func(x, y ovsdb.Tunnel) int { return strings.Compare(x.Name, y.Name) })
	return in, plugin.Observed{Spent: in.Spent, RetireAfter: time.Minute}
}

// carriedOut returns what stands after a plan that only adds.
func carriedOut(p plugin.Plan, ob plugin.Observed) plugin.Observed {
	ob.GateOpen = true
	for _, s := range p.Steps {
		switch {
		case s.Op.SA != nil:
			sa := *s.Op.SA
			if sa.Dir == xfrm.Out {
				sa.KeyPrint = s.Keys.OutPrint
			}
			ob.SAs = append(ob.SAs, sa)
		case s.Op.Policy != nil:
			ob.Policies = append(ob.Policies, *s.Op.Policy)
		}
	}
	return ob
}
