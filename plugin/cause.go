// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strings"

	"ovs-ipsec-offload/xfrm"
)

// Evidence is what a refusal is explained by. It is gathered after one, since
// looking costs a scan of every flow rule.
type Evidence struct {
	PF, Handle string
	Mode       string   // of the eswitch; "" when it cannot be read
	Flows      int      // flow rules in hardware on the eswitch, all devices
	Holder     string   // the device that has most of them
	OnPF       int      // of those, held by the PF itself
	VFs        []string // devlink ports whose functions use IPsec themselves
	Held       Refs     // what holds the tables, ours and others'
	Inbound    int      // inbound SAs on the PF, ours and others'
	Strict     Strict
	asked      bool // the NIC was asked whether it is strict, after this refusal
}

// Strict tells whether the NIC's driver refuses every SA while any flow is in
// hardware (Linux 6.17.4 and newer), or only those that make a table.
type Strict uint8

// What may be known of it.
const (
	StrictUnknown Strict = iota
	StrictYes
	StrictNo
)

// Cause returns why the driver answered err to op, in the operator's words, or
// nil when the evidence says no more than the error itself. The driver gives one
// answer, EBUSY, for all of it; this looks at what it looks at, in its order
// (mlx5e_xfrm_add_state in en_accel/ipsec.c, mlx5e_accel_ipsec_fs_add_rule in
// en_accel/ipsec_fs.c, mlx5_esw_ipsec_rx_setup_modify_header in esw/ipsec_fs.c).
func Cause(op xfrm.Op, err error, ev Evidence) *Problem {
	if xfrm.CodeOf(err) != xfrm.CodeBusy {
		return nil
	}
	dir, isSA := dirOf(op)
	table := ev.Held.TX
	if dir == xfrm.In {
		table = ev.Held.RX
	}
	switch {
	case len(ev.VFs) > 0:
		return problem("NIC_VF_IPSEC", "%s refuses IPsec since functions of it use IPsec offload themselves: for each of %s "+
			"`devlink port function set PORT ipsec_packet disable ipsec_crypto disable`", ev.PF, strings.Join(ev.VFs, ", "))
	case ev.OnPF > 0:
		p := filtersOnPF(ev.PF, ev.OnPF)
		return &p
	case ev.Flows > 0 && table == 0:
		return problem("NIC_BUSY_FLOWS", "%s makes no IPsec table while flows are in its hardware: %d are, most of them on %s; "+
			"see the problem FLOWS_FIRST of the host", ev.PF, ev.Flows, ev.Holder)
	case ev.Flows > 0 && isSA && (dir == xfrm.Out || ev.Strict == StrictYes):
		return problem("NIC_BUSY_STRICT", "the driver of %s takes no SA while flows are in hardware (Linux 6.17.4 and newer), and %d are, most of them on %s: "+
			"it is tried again and succeeds when they are gone", ev.PF, ev.Flows, ev.Holder)
	case isSA && dir == xfrm.In && table > 0 && (ev.Flows == 0 || ev.Strict == StrictNo):
		return problem(codeLimit, "%s has no room for another inbound SA: it holds %d, and its card takes no more", ev.PF, ev.Inbound)
	case table == 0 && ev.Mode != "switchdev":
		return problem("NIC_BUSY_MODE", "the eswitch mode of %s was being changed (it is %s now): wait for `devlink dev eswitch show %s` to say switchdev; it is tried again",
			ev.PF, orUnknown(ev.Mode), ev.Handle)
	case table == 0:
		return problem("NIC_BUSY_MODE", "%s was busy for a moment: its eswitch mode was being changed, or flows were in hardware that are gone now; it is tried again", ev.PF)
	}
	return nil
}

// filtersOnPF says that the PF's own filters keep IPsec out.
func filtersOnPF(pf string, n int) Problem {
	return Problem{"NIC_BUSY_FILTER", fmt.Sprintf("%s refuses IPsec since %d filters on the PF itself are in its hardware: see `tc filter show dev PF ingress`; "+
		"take it out of its bridge (`ovs-vsctl del-port PF`), or remove the filters (`tc filter del dev PF ingress`)", pf, n)}
}

// codeLimit is the code of what a NIC has no SA ids for.
const codeLimit = "NIC_SA_LIMIT"

func problem(code, format string, args ...any) *Problem {
	return &Problem{Code: code, Text: fmt.Sprintf(format, args...)}
}

func orUnknown(mode string) string {
	if mode == "" {
		return "not readable"
	}
	return mode
}

// dirOf returns the direction of an operation, and whether it is about an SA.
func dirOf(op xfrm.Op) (d xfrm.Dir, isSA bool) {
	if op.SA != nil {
		return op.SA.Dir, true
	}
	return op.Policy.Dir, false
}

// deviceOf returns the PF that an operation is for, 0 for the host's stack.
func deviceOf(op xfrm.Op) int {
	switch {
	case op.SA != nil:
		return op.SA.Offload.Ifindex
	case op.Policy != nil:
		return op.Policy.Offload.Ifindex
	}
	return 0
}

// makes tells whether an operation adds something.
func makes(op xfrm.Op) bool { return op.Kind != xfrm.DeleteSA && op.Kind != xfrm.DeletePolicy }

// explained is a refusal with its cause; the cause is what is shown.
type explained struct {
	*Problem
	refusal error
}

// Error returns the cause and the kernel's own words.
func (e *explained) Error() string { return e.Problem.Error() + ": " + flat(e.refusal) }

// Unwrap returns both.
func (e *explained) Unwrap() []error { return []error{e.Problem, e.refusal} }

// flat makes one line of an error.
func flat(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
