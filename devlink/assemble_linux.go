// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// observed is what the kernel's several interfaces said, not yet put together.
type observed struct {
	kernel    Kernel
	links     []link
	addrs     []addr
	ports     []port
	eswitches map[string]eswitch // by handle, of those that answered
	params    map[string]params  // by handle
	nics      map[int]nic        // by ifindex
}

// uplinks yields the NICs' own ports and their netdevs.
func (o *observed) uplinks() iter.Seq2[port, link] {
	return func(yield func(port, link) bool) {
		byIndex := o.byIndex()
		for _, p := range o.ports {
			if l, found := p.link(byIndex); found && p.uplink() && !yield(p, l) {
				return
			}
		}
	}
}

func (o *observed) byIndex() map[int]link {
	m := make(map[int]link, len(o.links))
	for _, l := range o.links {
		m[l.Ifindex] = l
	}
	return m
}

// link is a network device as rtnetlink tells of it.
type link struct {
	Link
	kind     string // IFLA_INFO_KIND, "" for a NIC
	up       bool
	master   int    // ifindex, or 0
	parent   int    // ifindex of the device below (IFLA_LINK), or 0
	switchID int    // first four bytes of IFLA_PHYS_SWITCH_ID, or 0
	bus      string // device it belongs to, as a devlink handle: "pci/0000:08:00.0", or ""
	port     uint16 // UDP port of a VXLAN device
}

// addr is an address of a device.
type addr struct {
	ifindex int
	ip      netip.Addr
}

// params holds the devlink parameters of one instance.
type params struct {
	steering  string
	multiport bool
}

// nic is what ethtool tells of a netdev.
type nic struct {
	driver       string
	esp, tc      bool
	afterDecrypt bool
}

// assemble puts Facts together.
func assemble(o observed) Facts {
	f := Facts{Kernel: o.kernel, Kinds: make(map[int]string)}
	byIndex := o.byIndex()
	for _, l := range o.links {
		if l.kind != "" {
			f.Kinds[l.Ifindex] = l.kind
		}
	}
	f.Addrs, f.Shared = addresses(o.addrs, byIndex)
	f.PFs = pfs(o, byIndex)
	for _, l := range o.links {
		f.classify(l, byIndex)
	}
	slices.Sort(f.TunnelDevs)
	slices.Sort(f.IndirectDevs)
	slices.SortFunc(f.ForeignVXLAN, func(a, b VXLANLink) int { return cmp.Compare(a.Ifindex, b.Ifindex) })
	return f
}

// addresses returns the owner of each address, and all owners of those that
// have several.
func addresses(addrs []addr, byIndex map[int]link) (map[netip.Addr]Link, map[netip.Addr][]Link) {
	owners := make(map[netip.Addr][]Link)
	for _, a := range addrs {
		l, found := byIndex[a.ifindex]
		if !found {
			continue // the device went away between the two dumps
		}
		ip := a.ip.Unmap()
		if ip.Is6() && ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(l.Name)
		}
		if !slices.Contains(owners[ip], l.Link) {
			owners[ip] = append(owners[ip], l.Link)
		}
	}
	one, shared := make(map[netip.Addr]Link, len(owners)), make(map[netip.Addr][]Link)
	for ip, ls := range owners {
		sortLinks(ls)
		one[ip] = ls[0]
		if len(ls) > 1 {
			shared[ip] = ls
		}
	}
	return one, shared
}

// pfs returns the uplinks that have an eswitch or IPsec offload.
func pfs(o observed, byIndex map[int]link) []PF {
	var ps []PF
	for p, l := range o.uplinks() {
		handle, answered := p.eswitchHandle(l, o.eswitches)
		if !answered && !o.nics[l.Ifindex].esp {
			continue
		}
		pf := o.pf(handle, l)
		pf.Master = byIndex[l.master].Name
		ps = append(ps, pf)
	}
	for i := range ps {
		ps[i].VFIPsec, ps[i].Representors = behind(ps[i], o, byIndex, ps)
	}
	slices.SortFunc(ps, func(a, b PF) int { return cmp.Compare(a.Ifindex, b.Ifindex) })
	return ps
}

// handles returns the devlink instances that may own the eswitch of the uplink
// p, whose netdev is l, the likelier first. From Linux 6.5 mlx5 puts the uplink
// port on an instance of its own, "auxiliary/mlx5_core.eth.0", and leaves the
// eswitch and the ports behind it on the PCI device (mlx5e_create_devlink).
func (p port) handles(l link) []string {
	if l.bus == "" || l.bus == p.handle {
		return []string{p.handle}
	}
	return []string{l.bus, p.handle}
}

// eswitchHandle returns the instance that owns the eswitch of the uplink p, and
// whether it told its mode.
func (p port) eswitchHandle(l link, eswitches map[string]eswitch) (handle string, answered bool) {
	hs := p.handles(l)
	for _, h := range hs {
		if _, answered := eswitches[h]; answered {
			return h, true
		}
	}
	return hs[0], false
}

// pf returns what is known of the uplink l by itself.
func (o observed) pf(handle string, l link) PF {
	n, e, p := o.nics[l.Ifindex], o.eswitches[handle], o.params[handle]
	return PF{
		Link: l.Link, Handle: handle, Driver: n.driver, Up: l.up,
		ESPOffload: n.esp, TCOffload: n.tc,
		EswitchMode: e.mode, EncapMode: e.encap, Steering: p.steering, Multiport: p.multiport,
		RXPolicyAfterDecrypt: n.afterDecrypt || n.driver == "mlx5_core" && o.kernel.AtLeast(6, 15, 0),
	}
}

// link returns the netdev of p. Its name must fit too: the netdev may have
// moved to another network namespace, where its ifindex means something else.
func (p port) link(byIndex map[int]link) (link, bool) {
	l, found := byIndex[p.ifindex]
	return l, found && l.Name == p.netdev
}

// behind returns the functions with IPsec and the representors of pf's
// eswitch. The switch ID alone would not do: mlx5 gives the same one to both
// ports of a card (mlx5e_devlink_get_port_parent_id), which are two eswitches.
// It serves for representors without a devlink port.
func behind(pf PF, o observed, byIndex map[int]link, all []PF) (ipsec []string, reps []Link) {
	ported := make(map[int]bool)
	for _, p := range o.ports {
		l, found := p.link(byIndex)
		if found {
			ported[l.Ifindex] = true
		}
		if p.handle != pf.Handle || !p.function() {
			continue
		}
		if p.ipsec {
			ipsec = append(ipsec, p.name())
		}
		if found {
			reps = append(reps, l.Link)
		}
	}
	id := byIndex[pf.Ifindex].switchID
	for _, l := range o.links {
		if id != 0 && l.switchID == id && !ported[l.Ifindex] && !isPF(all, l.Ifindex) {
			reps = append(reps, l.Link)
		}
	}
	slices.Sort(ipsec)
	sortLinks(reps)
	return ipsec, reps
}

func isPF(ps []PF, ifindex int) bool {
	return slices.ContainsFunc(ps, func(p PF) bool { return p.Ifindex == ifindex })
}

func sortLinks(ls []Link) {
	slices.SortFunc(ls, func(a, b Link) int { return cmp.Compare(a.Ifindex, b.Ifindex) })
}

// classify enters l among the devices whose rules a PF may take.
func (f *Facts) classify(l link, byIndex map[int]link) {
	switch {
	case tunnelKind(l.kind) && ofOVS(l, byIndex):
		f.TunnelDevs = append(f.TunnelDevs, l.Ifindex)
	case l.kind == "vxlan":
		f.ForeignVXLAN = append(f.ForeignVXLAN, VXLANLink{l.Link, l.port})
		f.IndirectDevs = append(f.IndirectDevs, l.Ifindex)
	case tunnelKind(l.kind), l.kind == "openvswitch":
		f.IndirectDevs = append(f.IndirectDevs, l.Ifindex)
	case l.kind == "vlan", l.kind == "macvlan":
		if f.pf(l.parent) != nil {
			f.IndirectDevs = append(f.IndirectDevs, l.Ifindex)
		}
	}
}

// tunnelKind tells whether mlx5 offloads rules on devices of that kind
// (mlx5e_get_tc_tun in en/tc_tun.c).
func tunnelKind(kind string) bool {
	switch kind {
	case "vxlan", "geneve", "gretap", "ip6gretap", "bareudp":
		return true
	}
	return false
}

// ofOVS tells whether Open vSwitch made the tunnel device l: it names them
// vxlan_sys_4789, genev_sys_6081, gre_sys (lib/netdev-vport.c) and enslaves
// them to its datapath; the name remains when ovs-vswitchd is gone.
func ofOVS(l link, byIndex map[int]link) bool {
	return strings.Contains(l.Name, "_sys_") || strings.HasSuffix(l.Name, "_sys") || byIndex[l.master].kind == "openvswitch"
}
