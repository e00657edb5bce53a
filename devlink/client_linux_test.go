// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/genetlink/genltest"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// answers are what a made-up kernel says of each devlink instance.
type answers map[string]struct {
	errno    int // of DEVLINK_CMD_ESWITCH_GET
	steering string
}

// fakeClient asks a made-up kernel.
func fakeClient(t *testing.T, a answers) *client {
	conn := genltest.Dial(func(greq genetlink.Message, _ netlink.Message) ([]genetlink.Message, error) {
		if len(greq.Data) == 0 {
			return nil, io.EOF
		}
		var param string
		p, err := decodePort(greq.Data) // the handle is encoded alike everywhere
		if err != nil {
			t.Error(err)
		}
		ad, _ := netlink.NewAttributeDecoder(greq.Data)
		for ad.Next() {
			if ad.Type() == unix.DEVLINK_ATTR_PARAM_NAME {
				param = ad.String()
			}
		}
		is, known := a[p.handle]
		switch {
		case !known:
			return nil, genltest.Error(int(unix.ENODEV))
		case greq.Header.Command == unix.DEVLINK_CMD_ESWITCH_GET && is.errno != 0:
			return nil, genltest.Error(is.errno)
		case greq.Header.Command == unix.DEVLINK_CMD_ESWITCH_GET:
			return []genetlink.Message{{Data: encode(t, func(ae *netlink.AttributeEncoder) { ae.Uint16(unix.DEVLINK_ATTR_ESWITCH_MODE, 1) })}}, nil
		case param == "flow_steering_mode" && is.steering != "":
			return []genetlink.Message{{Data: paramMessage(t, paramString, paramValue{0, []byte(is.steering + "\x00")})}}, nil
		}
		return nil, genltest.Error(int(unix.EINVAL)) // no such parameter
	})
	t.Cleanup(func() { _ = conn.Close() })
	return &client{conn: conn, family: genetlink.Family{ID: 1}, stop: func() bool { return true }}
}

func TestModes(t *testing.T) {
	type is = struct {
		errno    int
		steering string
	}
	tests := []struct {
		name      string
		kernel    answers
		esp       bool
		eswitches map[string]eswitch
		steering  string
		err       error
	}{
		{
			"mlx5", answers{aux0: is{errno: int(unix.EOPNOTSUPP)}, pci0: is{steering: "dmfs"}}, true,
			map[string]eswitch{pci0: {mode: "switchdev"}}, "dmfs", nil,
		},
		{"eswitch beside the uplink port", answers{aux0: is{steering: "smfs"}}, true, map[string]eswitch{aux0: {mode: "switchdev"}}, "smfs", nil},
		{"no parameter", answers{pci0: is{}}, true, map[string]eswitch{pci0: {mode: "switchdev"}}, "", nil},
		{"no eswitch", answers{aux0: is{errno: int(unix.EOPNOTSUPP)}, pci0: is{errno: int(unix.EOPNOTSUPP)}}, true, map[string]eswitch{}, "", nil},
		{"gone", answers{}, true, map[string]eswitch{}, "", nil},
		{"unprivileged", answers{pci0: is{errno: int(unix.EPERM)}, aux0: is{}}, true, map[string]eswitch{pci0: {}}, "", unix.EPERM},
		{"broken, but of no interest", answers{pci0: is{errno: int(unix.EIO)}}, false, map[string]eswitch{pci0: {}}, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observed{
				links: []link{{Link: Link{4, "p0"}, bus: pci0}},
				ports: []port{{handle: aux0, flavour: physical, ifindex: 4, netdev: "p0"}},
				nics:  map[int]nic{4: {esp: tt.esp}},
			}
			err := fakeClient(t, tt.kernel).modes(&o)
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.eswitches, o.eswitches, cmp.AllowUnexported(eswitch{})); diff != "" {
				t.Errorf("eswitches (-want +got):\n%s", diff)
			}
			for h, p := range o.params {
				if p.steering != tt.steering || p.multiport {
					t.Errorf("parameters of %s: %+v, want steering %q", h, p, tt.steering)
				}
			}
		})
	}
}

func TestKernelError(t *testing.T) {
	plain := errors.New("closed")
	if got := kernelError(plain); got != plain {
		t.Errorf("got %v", got)
	}
	op := &netlink.OpError{Op: "receive", Err: unix.EOPNOTSUPP, Message: "mlx5_core: no eswitch"}
	if got := kernelError(op); got.Error() != "mlx5_core: no eswitch (operation not supported)" || !errors.Is(got, unix.EOPNOTSUPP) {
		t.Errorf("got %v", got)
	}
	if got := kernelError(&netlink.OpError{Op: "receive", Err: unix.EPERM}); got.Error() != "operation not permitted" {
		t.Errorf("got %v", got)
	}
}
