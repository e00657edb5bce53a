// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// DevlinkError is a refusal of a devlink request.
type DevlinkError struct {
	Errno unix.Errno
	Text  string // of the driver
}

// Error returns the error number and the driver's words.
func (e *DevlinkError) Error() string { return fmt.Sprintf("%v: %s", e.Errno, e.Text) }

// Unwrap returns the error number.
func (e *DevlinkError) Unwrap() error { return e.Errno }

func denied(errno unix.Errno, text string) error { return &DevlinkError{errno, driver + text} }

// SetMode is `devlink dev eswitch set … mode`: "legacy" or "switchdev".
func (p *PF) SetMode(mode string) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	switch to := mode == "switchdev"; {
	case mode != "switchdev" && mode != "legacy":
		return denied(unix.EINVAL, "Unknown eswitch mode")
	case to == p.switchdev:
		return nil
	case p.blockMode > 0:
		return denied(unix.EOPNOTSUPP, "Can't change eswitch mode when IPsec SA and/or policies are configured")
	case p.users > 0:
		return denied(unix.EBUSY, "Can't change mode, E-Switch is busy")
	default:
		p.switchdev = to
		return nil
	}
}

// SetEncap is `devlink dev eswitch set … encap-mode`: "none" or "basic".
func (p *PF) SetEncap(mode string) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	switch to := mode == "basic"; {
	case mode != "none" && mode != "basic":
		return denied(unix.EINVAL, "Unknown encap mode")
	case to == p.encap:
		return nil
	case p.blockEncap > 0:
		return denied(unix.EOPNOTSUPP, "Can't set encapsulation when IPsec SA and/or policies are configured")
	case p.users > 0:
		return denied(unix.EOPNOTSUPP, "Can't set encapsulation when flows are configured")
	default:
		p.encap = to
		return nil
	}
}

// SetSteering is `devlink dev param set … flow_steering_mode`: "dmfs" or "smfs".
func (p *PF) SetSteering(mode string) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	switch {
	case mode != "dmfs" && mode != "smfs":
		return denied(unix.EINVAL, "Bad parameter: supported values are [\"dmfs\", \"smfs\"]")
	case mode == "smfs" && p.switchdev:
		return denied(unix.EOPNOTSUPP, "Software managed steering is not supported when eswitch offloads enabled.")
	}
	p.smfs = mode == "smfs"
	return nil
}

// SetVFIPsec is `devlink port function set … ipsec_packet enable` for one
// function, or disable.
func (p *PF) SetVFIPsec(on bool) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	switch {
	case !on && p.vfIPsec > 0:
		p.vfIPsec--
	case on && p.objects > 0:
		return denied(unix.EBUSY, "Fail to set IPsec packet offload: the PF has IPsec objects")
	case on:
		p.vfIPsec++
	}
	return nil
}

// SetMultiport sets the driver parameter esw_multiport.
func (p *PF) SetMultiport(on bool) {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	p.multiport = on
}

// SetUp sets the PF up, or down. Going down flushes every offloaded state and
// policy, and nobody is told (xfrm_dev_down). Flow rules stay.
func (p *PF) SetUp(up bool) {
	h := p.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.up = up; up {
		return
	}
	p.tell("admin down")
	for _, s := range h.states() {
		if s.dev != nil && s.dev.pf == p {
			_ = h.deleteState(s.ID())
		}
	}
	for _, q := range h.policyList() {
		if q.dev != nil && q.dev.pf == p {
			_ = h.deletePolicy(place{q.Dir, q.Sel})
		}
	}
}
