// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// encode builds attributes.
func encode(t testing.TB, fill func(*netlink.AttributeEncoder)) []byte {
	t.Helper()
	ae := netlink.NewAttributeEncoder()
	fill(ae)
	b, err := ae.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bitfield is a struct nla_bitfield32.
func bitfield(value, selector uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, value), selector)
}

func portMessage(t testing.TB, caps []byte) []byte {
	return encode(t, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.DEVLINK_ATTR_BUS_NAME, "pci")
		ae.String(unix.DEVLINK_ATTR_DEV_NAME, "0000:08:00.0")
		ae.Uint32(unix.DEVLINK_ATTR_PORT_INDEX, 3)
		ae.Uint16(unix.DEVLINK_ATTR_PORT_TYPE, unix.DEVLINK_PORT_TYPE_ETH)
		ae.Uint32(unix.DEVLINK_ATTR_PORT_NETDEV_IFINDEX, 9)
		ae.String(unix.DEVLINK_ATTR_PORT_NETDEV_NAME, "rep2")
		ae.Uint16(unix.DEVLINK_ATTR_PORT_FLAVOUR, unix.DEVLINK_PORT_FLAVOUR_PCI_VF)
		ae.Bytes(999, []byte("a later kernel's attribute"))
		ae.Nested(unix.DEVLINK_ATTR_PORT_FUNCTION, func(fn *netlink.AttributeEncoder) error {
			fn.Bytes(unix.DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR, []byte{2, 0, 0, 0, 0, 1})
			if caps != nil {
				fn.Bytes(unix.DEVLINK_PORT_FN_ATTR_CAPS, caps)
			}
			return nil
		})
	})
}

func TestDecodePort(t *testing.T) {
	const packet, crypto, roce = unix.DEVLINK_PORT_FN_CAP_IPSEC_PACKET, unix.DEVLINK_PORT_FN_CAP_IPSEC_CRYPTO, unix.DEVLINK_PORT_FN_CAP_ROCE
	tests := []struct {
		name  string
		caps  []byte
		ipsec bool
	}{
		{name: "no capabilities told"},
		{name: "all off", caps: bitfield(0, packet|crypto|roce)},
		{name: "only RoCE", caps: bitfield(roce, packet|crypto|roce)},
		{name: "packet", caps: bitfield(packet, packet|crypto), ipsec: true},
		{name: "crypto", caps: bitfield(crypto, packet|crypto), ipsec: true},
		{name: "bits that the driver does not answer for", caps: bitfield(packet|crypto, roce)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodePort(portMessage(t, tt.caps))
			if err != nil {
				t.Fatal(err)
			}
			want := port{handle: "pci/0000:08:00.0", index: 3, flavour: unix.DEVLINK_PORT_FLAVOUR_PCI_VF, ifindex: 9, netdev: "rep2", ipsec: tt.ipsec}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(port{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.name() != "pci/0000:08:00.0/3" || !got.function() || got.uplink() {
				t.Errorf("name %q, function %v, uplink %v", got.name(), got.function(), got.uplink())
			}
		})
	}
	if _, err := decodePort(portMessage(t, []byte{1, 2, 3})); err == nil {
		t.Error("a short bit field was accepted")
	}
	if p, err := decodePort(nil); err != nil || p.uplink() || p.function() {
		t.Errorf("a port without flavour: %+v, %v", p, err)
	}
}

func TestDecodeEswitch(t *testing.T) {
	tests := []struct {
		mode  uint16
		encap uint8
		want  eswitch
	}{
		{0, 0, eswitch{"legacy", "none"}},
		{1, 1, eswitch{"switchdev", "basic"}},
		{2, 1, eswitch{"switchdev_inactive", "basic"}},
		{7, 9, eswitch{"7", "9"}},
	}
	for _, tt := range tests {
		got, err := decodeEswitch(encode(t, func(ae *netlink.AttributeEncoder) {
			ae.String(unix.DEVLINK_ATTR_BUS_NAME, "pci")
			ae.Uint16(unix.DEVLINK_ATTR_ESWITCH_MODE, tt.mode)
			ae.Uint8(unix.DEVLINK_ATTR_ESWITCH_INLINE_MODE, 2)
			ae.Uint8(unix.DEVLINK_ATTR_ESWITCH_ENCAP_MODE, tt.encap)
		}))
		if err != nil || got != tt.want {
			t.Errorf("mode %d, encap %d: %+v, %v, want %+v", tt.mode, tt.encap, got, err, tt.want)
		}
	}
	if e, err := decodeEswitch(nil); err != nil || e != (eswitch{}) {
		t.Errorf("an eswitch that tells nothing: %+v, %v", e, err)
	}
	if _, err := decodeEswitch(encode(t, func(ae *netlink.AttributeEncoder) { ae.Uint8(unix.DEVLINK_ATTR_ESWITCH_MODE, 1) })); err == nil {
		t.Error("a mode of one byte was accepted")
	}
}

// paramValue is one value of a parameter; a nil data is a flag that is off.
type paramValue struct {
	cmode uint8
	data  []byte
}

func paramMessage(t testing.TB, kind uint8, values ...paramValue) []byte {
	return encode(t, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.DEVLINK_ATTR_BUS_NAME, "pci")
		ae.Nested(unix.DEVLINK_ATTR_PARAM, func(p *netlink.AttributeEncoder) error {
			p.String(unix.DEVLINK_ATTR_PARAM_NAME, "some_parameter")
			p.Uint8(unix.DEVLINK_ATTR_PARAM_TYPE, kind)
			p.Nested(unix.DEVLINK_ATTR_PARAM_VALUES_LIST, func(l *netlink.AttributeEncoder) error {
				for _, v := range values {
					l.Nested(unix.DEVLINK_ATTR_PARAM_VALUE, func(e *netlink.AttributeEncoder) error {
						e.Uint8(unix.DEVLINK_ATTR_PARAM_VALUE_CMODE, v.cmode)
						if v.data != nil {
							e.Bytes(unix.DEVLINK_ATTR_PARAM_VALUE_DATA, v.data)
						}
						return nil
					})
				}
				return nil
			})
			return nil
		})
	})
}

func TestDecodeParam(t *testing.T) {
	const runtime, driverinit, permanent = unix.DEVLINK_PARAM_CMODE_RUNTIME, unix.DEVLINK_PARAM_CMODE_DRIVERINIT, unix.DEVLINK_PARAM_CMODE_PERMANENT
	tests := []struct {
		name   string
		kind   uint8
		values []paramValue
		want   string
	}{
		{"string", paramString, []paramValue{{runtime, []byte("dmfs\x00")}}, "dmfs"},
		{"runtime before others", paramString, []paramValue{{permanent, []byte("smfs\x00")}, {runtime, []byte("dmfs\x00")}, {driverinit, []byte("hmfs\x00")}}, "dmfs"},
		{"first when none is in force", paramString, []paramValue{{driverinit, []byte("smfs\x00")}, {permanent, []byte("dmfs\x00")}}, "smfs"},
		{"flag on", paramFlag, []paramValue{{runtime, []byte{}}}, "true"},
		{"flag off", paramFlag, []paramValue{{runtime, nil}}, "false"},
		{"flag off now and on later", paramFlag, []paramValue{{driverinit, []byte{}}, {runtime, nil}}, "false"},
		{"number", 3, []paramValue{{runtime, []byte{1, 0, 0, 0}}}, ""},
		{"no value", paramString, nil, ""},
	}
	for _, tt := range tests {
		got, err := decodeParam(paramMessage(t, tt.kind, tt.values...))
		if err != nil || got != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// The decoders must neither panic nor loop on anything, and what they accept
// must not depend on attributes they do not know.
func FuzzDecode(f *testing.F) {
	f.Add(portMessage(f, bitfield(12, 12)))
	f.Add(paramMessage(f, paramString, paramValue{0, []byte("dmfs\x00")}))
	f.Add(paramMessage(f, paramFlag, paramValue{0, nil}))
	f.Add([]byte{5, 0, 1, 0, 0})
	f.Add([]byte{0, 0, 0, 0})
	unknown := encode(f, func(ae *netlink.AttributeEncoder) { ae.Uint32(1234, 1) })
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePort(b)
		e, errE := decodeEswitch(b)
		v, errV := decodeParam(b)
		if len(b)%4 != 0 || err != nil || errE != nil || errV != nil {
			return
		}
		more := append(b[:len(b):len(b)], unknown...)
		p2, err2 := decodePort(more)
		e2, errE2 := decodeEswitch(more)
		v2, errV2 := decodeParam(more)
		if err2 != nil || errE2 != nil || errV2 != nil || p != p2 || e != e2 || v != v2 {
			t.Errorf("an unknown attribute changed %+v %+v %q into %+v %+v %q (%v %v %v)", p, e, v, p2, e2, v2, err2, errE2, errV2)
		}
	})
}
