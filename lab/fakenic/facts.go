// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/devlink"
)

// Facts says what package devlink would find on this host.
func (h *Host) Facts(ctx context.Context) (devlink.Facts, error) {
	if err := h.ask(ctx, "read facts"); err != nil {
		return devlink.Facts{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f := devlink.Facts{Kernel: h.kernel, Addrs: map[netip.Addr]devlink.Link{}, Shared: map[netip.Addr][]devlink.Link{}, Kinds: map[int]string{}}
	for _, p := range h.pfs {
		f.PFs = append(f.PFs, p.facts())
	}
	for _, i := range slices.Sorted(maps.Keys(h.links)) {
		h.linkFacts(&f, h.links[i])
	}
	h.addrFacts(&f)
	return f, nil
}

func (h *Host) linkFacts(f *devlink.Facts, l link) {
	switch {
	case l.pf != nil:
		i := slices.Index(h.pfs, l.pf)
		f.PFs[i].Representors = append(f.PFs[i].Representors, l.Link)
		return
	case l.kind == "vxlan" && l.ours:
		f.TunnelDevs = append(f.TunnelDevs, l.Ifindex)
	case l.kind == "vxlan":
		f.ForeignVXLAN = append(f.ForeignVXLAN, devlink.VXLANLink{Link: l.Link, Port: l.port})
		f.IndirectDevs = append(f.IndirectDevs, l.Ifindex)
	}
	if l.kind != "" {
		f.Kinds[l.Ifindex] = l.kind
	}
}

func (h *Host) addrFacts(f *devlink.Facts) {
	holders := map[netip.Addr][]devlink.Link{}
	for _, a := range h.addrs {
		l := h.links[a.dev].Link
		if p := h.pf(a.dev); p != nil {
			l = devlink.Link{Ifindex: p.ifindex, Name: p.name}
		}
		holders[a.prefix.Addr()] = append(holders[a.prefix.Addr()], l)
	}
	for a, ls := range holders {
		slices.SortFunc(ls, func(x, y devlink.Link) int { return cmp.Compare(x.Ifindex, y.Ifindex) })
		f.Addrs[a] = ls[0]
		if len(ls) > 1 {
			f.Shared[a] = ls
		}
	}
}

// Link returns the device of that index.
func (h *Host) Link(ctx context.Context, ifindex int) (devlink.Link, error) {
	if err := h.ask(ctx, "find link"); err != nil {
		return devlink.Link{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.pf(ifindex); p != nil {
		return devlink.Link{Ifindex: ifindex, Name: p.name}, nil
	}
	if l, is := h.links[ifindex]; is {
		return l.Link, nil
	}
	return devlink.Link{}, unix.ENODEV
}

// Source returns the address from which the host would reach remote.
func (h *Host) Source(ctx context.Context, remote netip.Addr) (netip.Addr, error) {
	if err := h.ask(ctx, "find route"); err != nil {
		return netip.Addr{}, err
	}
	return h.Reach(remote)
}

// Reach is Source without faults: the first address of the device that the best
// route leads to, on-link subnets included.
func (h *Host) Reach(remote netip.Addr) (netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	best, src := -1, netip.Addr{}
	for _, a := range h.addrs {
		if a.prefix.Masked().Contains(remote) && a.prefix.Bits() > best {
			best, src = a.prefix.Bits(), a.prefix.Addr()
		}
	}
	for _, r := range h.routes {
		if !r.to.Contains(remote) || r.to.Bits() <= best {
			continue
		}
		i := slices.IndexFunc(h.addrs, func(a address) bool { return a.dev == r.dev && a.prefix.Addr().Is4() == remote.Is4() })
		if i >= 0 {
			best, src = r.to.Bits(), h.addrs[i].prefix.Addr()
		}
	}
	if !src.IsValid() {
		return src, fmt.Errorf("find route to %s: network is unreachable", remote)
	}
	return src, nil
}
