// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Values of linux/devlink.h that x/sys/unix does not have.
const (
	flavourPCISF = 7 // DEVLINK_PORT_FLAVOUR_PCI_SF
	paramString  = 5 // NLA_STRING as DEVLINK_ATTR_PARAM_TYPE
	paramFlag    = 6 // NLA_FLAG
)

// port is one devlink port, from DEVLINK_CMD_PORT_GET.
type port struct {
	handle  string // of its devlink instance: BUS/DEVICE
	index   uint32
	flavour int    // DEVLINK_PORT_FLAVOUR_*, or -1
	ifindex int    // of its netdev, or 0
	netdev  string // name of its netdev, or ""
	ipsec   bool   // its function has ipsec_crypto or ipsec_packet
}

// name returns the port as devlink(8) writes it.
func (p port) name() string { return fmt.Sprintf("%s/%d", p.handle, p.index) }

// uplink tells whether p is a NIC's own connector.
func (p port) uplink() bool { return p.flavour == unix.DEVLINK_PORT_FLAVOUR_PHYSICAL }

// function tells whether p stands for a PCI function behind the eswitch, so
// that its netdev is a representor.
func (p port) function() bool {
	switch p.flavour {
	case unix.DEVLINK_PORT_FLAVOUR_PCI_PF, unix.DEVLINK_PORT_FLAVOUR_PCI_VF, flavourPCISF:
		return true
	}
	return false
}

// decodePort decodes the attributes of a DEVLINK_CMD_PORT_NEW message.
func decodePort(b []byte) (port, error) {
	p := port{flavour: -1}
	var bus, dev string
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return p, fmt.Errorf("decode devlink port: %w", err)
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.DEVLINK_ATTR_BUS_NAME:
			bus = ad.String()
		case unix.DEVLINK_ATTR_DEV_NAME:
			dev = ad.String()
		case unix.DEVLINK_ATTR_PORT_INDEX:
			p.index = ad.Uint32()
		case unix.DEVLINK_ATTR_PORT_FLAVOUR:
			p.flavour = int(ad.Uint16())
		case unix.DEVLINK_ATTR_PORT_NETDEV_IFINDEX:
			p.ifindex = int(ad.Uint32())
		case unix.DEVLINK_ATTR_PORT_NETDEV_NAME:
			p.netdev = ad.String()
		case unix.DEVLINK_ATTR_PORT_FUNCTION:
			ad.Nested(func(fn *netlink.AttributeDecoder) error { return decodeFunction(fn, &p) })
		}
	}
	p.handle = bus + "/" + dev
	if err := ad.Err(); err != nil {
		return p, fmt.Errorf("decode devlink port: %w", err)
	}
	return p, nil
}

// decodeFunction reads the capabilities of a port's function.
func decodeFunction(ad *netlink.AttributeDecoder, p *port) error {
	for ad.Next() {
		if ad.Type() != unix.DEVLINK_PORT_FN_ATTR_CAPS {
			continue
		}
		b := ad.Bytes()
		if len(b) < 8 { // struct nla_bitfield32: value, selector
			return fmt.Errorf("function capabilities have %d bytes, want 8", len(b))
		}
		caps := binary.NativeEndian.Uint32(b) & binary.NativeEndian.Uint32(b[4:])
		p.ipsec = caps&(unix.DEVLINK_PORT_FN_CAP_IPSEC_CRYPTO|unix.DEVLINK_PORT_FN_CAP_IPSEC_PACKET) != 0
	}
	return nil
}

// eswitch is the state of a NIC's eswitch, in devlink(8)'s words.
type eswitch struct{ mode, encap string }

// decodeEswitch decodes the attributes of a DEVLINK_CMD_ESWITCH_GET reply.
func decodeEswitch(b []byte) (eswitch, error) {
	var e eswitch
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return e, fmt.Errorf("decode eswitch: %w", err)
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.DEVLINK_ATTR_ESWITCH_MODE:
			e.mode = word(int(ad.Uint16()), "legacy", "switchdev", "switchdev_inactive")
		case unix.DEVLINK_ATTR_ESWITCH_ENCAP_MODE:
			e.encap = word(int(ad.Uint8()), "none", "basic")
		}
	}
	if err := ad.Err(); err != nil {
		return e, fmt.Errorf("decode eswitch: %w", err)
	}
	return e, nil
}

// word returns the i-th word, or the number when there is none.
func word(i int, words ...string) string {
	if i < len(words) {
		return words[i]
	}
	return fmt.Sprint(i)
}

// decodeParam decodes a DEVLINK_CMD_PARAM_GET reply: the value that is in
// force now (cmode runtime), else the first one. Flags are "true" or "false";
// numbers, which this package does not read, are "".
func decodeParam(b []byte) (string, error) {
	var d paramDecoder
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return "", fmt.Errorf("decode parameter: %w", err)
	}
	for ad.Next() {
		if ad.Type() == unix.DEVLINK_ATTR_PARAM {
			ad.Nested(d.param)
		}
	}
	if err := ad.Err(); err != nil {
		return "", fmt.Errorf("decode parameter: %w", err)
	}
	return d.text(), nil
}

// paramDecoder collects what the three levels of a parameter say.
type paramDecoder struct {
	kind    uint8 // DEVLINK_ATTR_PARAM_TYPE
	seen    bool  // of a value
	runtime bool  // value is the one in force
	value   []byte
	flag    bool // the value has data, even if none of length
}

func (d *paramDecoder) param(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		switch ad.Type() {
		case unix.DEVLINK_ATTR_PARAM_TYPE:
			d.kind = ad.Uint8()
		case unix.DEVLINK_ATTR_PARAM_VALUES_LIST:
			ad.Nested(d.values)
		}
	}
	return nil
}

func (d *paramDecoder) values(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		if ad.Type() == unix.DEVLINK_ATTR_PARAM_VALUE {
			ad.Nested(d.one)
		}
	}
	return nil
}

func (d *paramDecoder) one(ad *netlink.AttributeDecoder) error {
	var data []byte
	var flag, runtime bool
	for ad.Next() {
		switch ad.Type() {
		case unix.DEVLINK_ATTR_PARAM_VALUE_DATA:
			data, flag = ad.Bytes(), true
		case unix.DEVLINK_ATTR_PARAM_VALUE_CMODE:
			runtime = ad.Uint8() == unix.DEVLINK_PARAM_CMODE_RUNTIME
		}
	}
	if !d.seen || runtime && !d.runtime {
		d.seen, d.runtime, d.value, d.flag = true, runtime, data, flag
	}
	return nil
}

func (d *paramDecoder) text() string {
	switch {
	case !d.seen:
		return ""
	case d.kind == paramString:
		return unix.ByteSliceToString(d.value)
	case d.kind == paramFlag:
		return fmt.Sprint(d.flag)
	}
	return ""
}
