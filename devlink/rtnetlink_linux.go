// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rtnlTimeout bounds the wait for one rtnetlink answer when the caller's context
// has no deadline.
const rtnlTimeout = 10 * time.Second

// Route is the way to a remote address.
type Route struct {
	Source netip.Addr // address the host would send from
	Link   Link       // device it would send by
}

// Route asks the routing table for the way to remote (RTM_GETROUTE). It is for
// the few tunnels without options:local_ip: one request each, about 20 µs.
func (r *Reader) Route(ctx context.Context, remote netip.Addr) (Route, error) {
	route, err := lookup(ctx, remote)
	if err != nil {
		return Route{}, fmt.Errorf("find route to %s: %w", remote, err)
	}
	return route, nil
}

// Source returns the address from which the host would reach remote.
func (r *Reader) Source(ctx context.Context, remote netip.Addr) (netip.Addr, error) {
	route, err := r.Route(ctx, remote)
	return route.Source, err
}

// Link returns the device of that index, and ENODEV when there is none.
func (r *Reader) Link(ctx context.Context, ifindex int) (Link, error) {
	h, err := handle(ctx)
	if err != nil {
		return Link{}, err
	}
	defer h.Close()
	l, err := h.LinkByIndex(ifindex)
	if errors.As(err, &rtnl.LinkNotFoundError{}) {
		err = unix.ENODEV
	}
	if err != nil {
		return Link{}, fmt.Errorf("find interface %d: %w", ifindex, err)
	}
	return Link{ifindex, l.Attrs().Name}, nil
}

func lookup(ctx context.Context, remote netip.Addr) (Route, error) {
	h, err := handle(ctx)
	if err != nil {
		return Route{}, err
	}
	defer h.Close()
	routes, err := h.RouteGet(remote.Unmap().AsSlice())
	if err != nil {
		return Route{}, err
	}
	if len(routes) == 0 {
		return Route{}, unix.ENETUNREACH
	}
	got := routes[0]
	if got.Type == unix.RTN_LOCAL {
		return Route{}, errors.New("it is an address of this host")
	}
	source, ok := netip.AddrFromSlice(got.Src)
	if !ok {
		return Route{}, errors.New("no address of this host fits")
	}
	l, err := h.LinkByIndex(got.LinkIndex)
	if err != nil {
		return Route{}, err
	}
	return Route{source.Unmap(), Link{got.LinkIndex, l.Attrs().Name}}, nil
}

// handle opens rtnetlink for one reading. Links come without their VFs: the
// driver would be asked for each of them.
func handle(ctx context.Context) (*rtnl.Handle, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h, err := rtnl.NewHandleWithOptions(rtnl.HandleOptions{DisableVFInfoCollection: true, RetryInterrupted: true}, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	timeout := rtnlTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Millisecond)
	}
	if err := h.SetSocketTimeout(timeout); err != nil {
		h.Close()
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return h, nil
}

// devices returns all links and addresses.
func devices(ctx context.Context) ([]link, []addr, error) {
	h, err := handle(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return nil, nil, fmt.Errorf("list links: %w", err)
	}
	addrs, err := h.AddrList(nil, rtnl.FAMILY_ALL)
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	return linksOf(links), addrsOf(addrs), nil
}

func linksOf(in []rtnl.Link) []link {
	out := make([]link, len(in))
	for i, l := range in {
		a := l.Attrs()
		out[i] = link{
			Link: Link{a.Index, a.Name}, kind: l.Type(), up: a.Flags&net.FlagUp != 0,
			master: a.MasterIndex, parent: a.ParentIndex, switchID: a.PhysSwitchID,
		}
		if l.Type() == "device" { // the library's word for none
			out[i].kind = ""
		}
		if a.ParentDev != "" {
			out[i].bus = a.ParentDevBus + "/" + a.ParentDev
		}
		if v, ok := l.(*rtnl.Vxlan); ok {
			out[i].port = uint16(v.Port)
		}
	}
	return out
}

func addrsOf(in []rtnl.Addr) []addr {
	out := make([]addr, 0, len(in))
	for _, a := range in {
		if a.IPNet == nil {
			continue
		}
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			out = append(out, addr{a.LinkIndex, ip})
		}
	}
	return out
}
