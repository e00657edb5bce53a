// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"encoding/binary"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// EventKind says what changed.
type EventKind uint8

// The kinds of events.
const (
	// LinkChanged: a device is new, gone, went up or down, or has another
	// name, master or feature set.
	LinkChanged EventKind = iota + 1
	// AddrChanged: a device got or lost an address.
	AddrChanged
	// DevlinkChanged: a devlink instance, port or parameter is new, gone or
	// changed. The kernel says nothing when an eswitch changes its mode, but
	// ports come and go with that.
	DevlinkChanged
	// Overrun: events were lost; anything may have changed.
	Overrun
)

// String returns the name of k.
func (k EventKind) String() string {
	return word(int(k), "no event", "link changed", "address changed", "devlink changed", "overrun")
}

// Event is a hint that facts changed. Link, Up and Gone are about LinkChanged;
// of AddrChanged only the ifindex is known.
type Event struct {
	Kind EventKind
	Link Link
	Up   bool // administratively up
	Gone bool
}

// routeEvent reads a notification of rtnetlink.
func routeEvent(m netlink.Message) (Event, bool) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return linkEvent(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(m.Data) < unix.SizeofIfAddrmsg {
			return Event{}, false
		}
		return Event{Kind: AddrChanged, Link: Link{Ifindex: int(binary.NativeEndian.Uint32(m.Data[4:]))}}, true
	}
	return Event{}, false
}

// linkEvent reads struct ifinfomsg and the name after it. Messages of a
// bridge about its ports (family AF_BRIDGE) use the same types: a DELLINK of
// theirs means that the port left the bridge, not that it is gone.
func linkEvent(m netlink.Message) (Event, bool) {
	if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
		return Event{}, false
	}
	e := Event{Kind: LinkChanged, Gone: m.Header.Type == unix.RTM_DELLINK}
	e.Link.Ifindex = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	e.Up = !e.Gone && binary.NativeEndian.Uint32(m.Data[8:])&unix.IFF_UP != 0
	ad, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return e, true
	}
	for ad.Next() {
		if ad.Type() == unix.IFLA_IFNAME {
			e.Link.Name = ad.String()
		}
	}
	return e, true
}

// devlinkEvent reads a notification of devlink. Traps, rates, health reports
// and the progress of flashing change no fact.
func devlinkEvent(m genetlink.Message) (Event, bool) {
	switch m.Header.Command {
	case unix.DEVLINK_CMD_NEW, unix.DEVLINK_CMD_DEL, unix.DEVLINK_CMD_PORT_NEW, unix.DEVLINK_CMD_PORT_DEL,
		unix.DEVLINK_CMD_PARAM_NEW, unix.DEVLINK_CMD_PARAM_DEL, unix.DEVLINK_CMD_ESWITCH_GET, unix.DEVLINK_CMD_ESWITCH_SET:
		return Event{Kind: DevlinkChanged}, true
	}
	return Event{}, false
}
