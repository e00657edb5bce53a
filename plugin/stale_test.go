// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/plugin"
)

// remade is a NIC driver that is loaded anew between the look and the first step.
type remade struct {
	plugin.NIC
	now devlink.Link
	err error
}

func (n *remade) Link(context.Context, int) (devlink.Link, error) { return n.now, n.err }

// TestStaleDevice wants nothing to reach the kernel with the index of a device
// that is gone or is another one by now, and no key to be used up by it.
func TestStaleDevice(t *testing.T) {
	for _, test := range []struct {
		name string
		nic  remade
		says string
	}{
		{"gone", remade{err: unix.ENODEV}, "NIC_STALE: pf0 was interface 4"},
		{"another", remade{now: devlink.Link{Ifindex: 4, Name: "eth9"}}, "NIC_STALE: interface 4 was pf0 when this was planned, and is eth9 now"},
		{"cannot be looked at", remade{err: unix.ENOBUFS}, "HOST_ERROR: look at interface 4: no buffer space"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := standardRig()
			if err := r.settle(); err != nil { // guards stand
				t.Fatal(err)
			}
			nic := test.nic
			nic.NIC = r.Host.Host
			r.cfg.NIC = &nic
			r.restart()
			r.Keys.Make("ab")
			r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
			before := len(r.dump())
			r.Faults.Set()
			if err := r.settle(); err != nil {
				t.Fatal(err)
			}
			if now := len(r.dump()); now != before || len(r.Faults.Seen()) != 0 {
				t.Errorf("the kernel was asked for %v", r.Faults.Seen())
			}
			if text := r.statusText(); !strings.Contains(text, "  "+test.says) {
				t.Errorf("the status does not say %q:\n%s", test.says, text)
			}
			if set, err := r.Keys.Lookup("ab"); err != nil || r.Ledger.Used(set.OutPrint) {
				t.Errorf("the key counts as used (%v)", err)
			}
			nic.err, nic.now = nil, devlink.Link{Ifindex: 4, Name: "pf0"}
			if err := r.calmDown(); err != nil {
				t.Fatal(err)
			}
			if p := r.d.Last().Pairs; len(p) != 1 || p[0].State != "encrypted" {
				t.Errorf("the pair is %+v", p)
			}
		})
	}
}

// TestOutboundKeyOfStaleDevice lets the device go between the two SAs of a pair.
func TestOutboundKeyOfStaleDevice(t *testing.T) {
	r := standardRig()
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
	_, _, plan, err := r.d.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nic := &goes{NIC: r.Host.Host, after: 2} // waves: guards, inbound SA
	r.cfg.NIC = nic
	out := plugin.Apply(t.Context(), r.cfg, plan, map[int]string{4: "pf0"})
	if len(out.Failed) != 1 {
		t.Fatalf("outcome %+v", out)
	}
	set, err := r.Keys.Lookup("ab")
	if err != nil || r.Sent(set.OutPrint) != 0 || r.Ledger.Used(set.OutPrint) {
		t.Errorf("sent %d times, used %t (%v)", r.Sent(set.OutPrint), r.Ledger.Used(set.OutPrint), err)
	}
}

// goes is gone after some looks.
type goes struct {
	plugin.NIC
	after int
}

func (n *goes) Link(ctx context.Context, i int) (devlink.Link, error) {
	if n.after--; n.after < 0 {
		return devlink.Link{}, unix.ENODEV
	}
	return n.NIC.Link(ctx, i)
}
