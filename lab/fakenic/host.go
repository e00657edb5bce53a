// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/xfrm"
)

// Host is the kernel of one host. Its methods may be called by several
// goroutines; fields may be set before the first call only.
type Host struct {
	// Faults makes operations fail; New sets one that makes none fail.
	Faults *Faults
	// Changed, if set, is called after each XFRM operation that was carried
	// out, without any lock held.
	Changed func(op xfrm.Op)

	mu       sync.Mutex
	kernel   devlink.Kernel
	pfs      []*PF // by ifindex
	links    map[int]link
	addrs    []address
	routes   []route
	sad      map[xfrm.SAID]*state
	spd      map[place]*policy
	flows    []*flow
	nextFlow int
	clock    int // counts what is made, so that dumps have an order
	lockdown bool
	sent     map[xfrm.Fingerprint]int
}

// link is a device that is not a PF.
type link struct {
	devlink.Link
	kind  string // IFLA_INFO_KIND
	port  uint16 // of a VXLAN device
	ours  bool   // made by Open vSwitch
	pf    *PF    // of a representor
	tcOff bool   // hw-tc-offload is off
}

type address struct {
	prefix netip.Prefix // address and length of its subnet
	dev    int
}

type route struct {
	to  netip.Prefix
	dev int
}

// New returns a host without NICs, on a 6.12 kernel.
func New() *Host {
	return &Host{
		Faults: &Faults{},
		kernel: devlink.Kernel{Major: 6, Minor: 12, Patch: 107, Release: "6.12.107+deb13-amd64"},
		links:  map[int]link{}, sad: map[xfrm.SAID]*state{}, spd: map[place]*policy{}, sent: map[xfrm.Fingerprint]int{},
	}
}

// SetKernel sets the version that Facts tells.
func (h *Host) SetKernel(k devlink.Kernel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kernel = k
}

// AddPF adds a NIC that is up, in switchdev mode with encap-mode basic, steered
// by firmware (dmfs), with one representor "NAME_0" whose index is 100 higher.
func (h *Host) AddPF(name string, ifindex int) *PF {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := newPF(h, name, ifindex)
	h.pfs = append(h.pfs, p)
	slices.SortFunc(h.pfs, func(a, b *PF) int { return a.ifindex - b.ifindex })
	rep := devlink.Link{Ifindex: ifindex + 100, Name: name + "_0"}
	h.links[rep.Ifindex] = link{Link: rep, pf: p}
	return p
}

// AddLink adds a device of another kind, as "bond" or "vlan"; "" is a plain NIC.
func (h *Host) AddLink(name string, ifindex int, kind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links[ifindex] = link{Link: devlink.Link{Ifindex: ifindex, Name: name}, kind: kind}
}

// AddRepresentor adds one more representor to a PF.
func (h *Host) AddRepresentor(p *PF, name string, ifindex int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links[ifindex] = link{Link: devlink.Link{Ifindex: ifindex, Name: name}, pf: p}
}

// SetTC is `ethtool -K DEV hw-tc-offload` for a representor. It always goes.
func (h *Host) SetTC(ifindex int, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.links[ifindex]
	l.tcOff = !on
	h.links[ifindex] = l
}

// Fence turns hw-tc-offload of devices off or on, as devlink.Fence does.
func (h *Host) Fence(ctx context.Context, ifindexes []int, on bool) (changed []int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	label := map[bool]string{true: "unfence ", false: "fence "}[on] + h.names(ifindexes)
	err = h.Faults.Run(label, func() error {
		changed, err = h.fence(ifindexes, on)
		return err
	})
	return changed, err
}

func (h *Host) fence(ifindexes []int, on bool) (changed []int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, i := range ifindexes {
		p, l := h.pf(i), h.links[i]
		switch {
		case p != nil && p.tc != on:
			if r := p.setTC(on); r != nil {
				errs = append(errs, &devlink.FenceError{Link: devlink.Link{Ifindex: i, Name: p.name}, On: on})
				continue
			}
		case p == nil && l.pf != nil && l.tcOff == on:
			l.tcOff = !on
			h.links[i] = l
		default:
			continue
		}
		changed = append(changed, i)
	}
	return changed, errors.Join(errs...)
}

// Offloading returns those of the devices whose hw-tc-offload is on.
func (h *Host) Offloading(ctx context.Context, ifindexes []int) ([]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := h.Faults.Ask("read hw-tc-offload"); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var on []int
	for _, i := range ifindexes {
		p, l := h.pf(i), h.links[i]
		if p != nil && p.tc || p == nil && l.pf != nil && !l.tcOff {
			on = append(on, i)
		}
	}
	return on, nil
}

// names lists devices for a label.
func (h *Host) names(ifindexes []int) string {
	ns := make([]string, len(ifindexes))
	for i, dev := range ifindexes {
		ns[i] = h.Name(dev)
	}
	return strings.Join(ns, ",")
}

// DelLink deletes a device that is no PF, with its rules.
func (h *Host) DelLink(ifindex int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range slices.Clone(h.flows) {
		if f.Dev == ifindex {
			h.deleteFlow(f)
		}
	}
	delete(h.links, ifindex)
}

// AddVXLAN adds a VXLAN device; ours says that it is one of Open vSwitch's.
func (h *Host) AddVXLAN(name string, ifindex int, port uint16, ours bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links[ifindex] = link{Link: devlink.Link{Ifindex: ifindex, Name: name}, kind: "vxlan", port: port, ours: ours}
}

// AddAddr puts an address with the length of its subnet on a device.
func (h *Host) AddAddr(p netip.Prefix, ifindex int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addrs = append(h.addrs, address{p, ifindex})
}

// DelAddr takes an address off every device that has it.
func (h *Host) DelAddr(a netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addrs = slices.DeleteFunc(h.addrs, func(x address) bool { return x.prefix.Addr() == a })
}

// AddRoute sends packets to a prefix out of a device, whatever their source.
func (h *Host) AddRoute(to netip.Prefix, ifindex int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.routes = append(h.routes, route{to, ifindex})
}

// SetLockdown makes dumps hide keys, as a kernel under lockdown does
// (xfrm_redact).
func (h *Host) SetLockdown(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lockdown = on
}

// PF returns the NIC of that name, or nil.
func (h *Host) PF(name string) *PF {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pfs {
		if p.name == name {
			return p
		}
	}
	return nil
}

// PFs returns all NICs by ifindex.
func (h *Host) PFs() []*PF {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.pfs)
}

// pf returns the NIC of that index; the lock is held.
func (h *Host) pf(ifindex int) *PF {
	for _, p := range h.pfs {
		if p.ifindex == ifindex {
			return p
		}
	}
	return nil
}

// Name returns the name of a device.
func (h *Host) Name(ifindex int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.pf(ifindex); p != nil {
		return p.name
	}
	if l, is := h.links[ifindex]; is {
		return l.Name
	}
	return fmt.Sprintf("if%d", ifindex)
}

// tick orders what is made.
func (h *Host) tick() int {
	h.clock++
	return h.clock
}

// exit returns the index of the device by which a packet leaves: that of the
// best route, else the one that holds its source; 0 when there is none.
func (h *Host) exit(src, dst netip.Addr) int {
	best, dev := -1, 0
	for _, r := range h.routes {
		if r.to.Contains(dst) && r.to.Bits() > best {
			best, dev = r.to.Bits(), r.dev
		}
	}
	for _, a := range h.addrs {
		if best < 0 && a.prefix.Addr() == src {
			dev = a.dev
		}
	}
	return dev
}
