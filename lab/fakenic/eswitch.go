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

// deny notes a refusal and returns it.
func (p *PF) deny(what string, errno unix.Errno, text string) error {
	p.refused(what, &refusal{errno: errno, text: driver + text})
	return &DevlinkError{errno, driver + text}
}

// SetMode is `devlink dev eswitch set … mode`: "legacy" or "switchdev". With
// flows the switch is busy before it looks at anything else.
func (p *PF) SetMode(mode string) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	to := mode == "switchdev"
	if no := p.tryLock(); no != nil {
		return p.deny("eswitch mode", no.errno, "Can't change mode, E-Switch is busy")
	}
	if to != p.switchdev && p.blockMode > 0 {
		return p.deny("eswitch mode", unix.EOPNOTSUPP, "Can't change eswitch mode when IPsec SA and/or policies are configured")
	}
	p.switchdev = to
	return nil
}

// SetEncap is `devlink dev eswitch set … encap-mode`: "none" or "basic".
func (p *PF) SetEncap(mode string) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	to := mode == "basic"
	if p.switchdev && to != p.encap {
		switch {
		case p.users > 0:
			return p.deny("encap mode", unix.EOPNOTSUPP, "Can't set encapsulation when flows are configured")
		case p.blockEncap > 0:
			return p.deny("encap mode", unix.EOPNOTSUPP, "Can't set encapsulation when IPsec SA and/or policies are configured")
		}
	}
	p.encap = to
	return nil
}

// SetSteering is `devlink dev param set … flow_steering_mode`: "dmfs" or "smfs".
func (p *PF) SetSteering(mode string) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	switch {
	case mode != "dmfs" && mode != "smfs":
		return p.deny("steering mode", unix.EINVAL, "Bad parameter: supported values are [\"dmfs\", \"smfs\"]")
	case mode == "smfs" && p.switchdev:
		return p.deny("steering mode", unix.EOPNOTSUPP, "Software managed steering is not supported when eswitch offloads enabled.")
	}
	p.smfs = mode == "smfs"
	return nil
}

// SetVFIPsec is `devlink port function set …`: capability is "ipsec_packet" or
// "ipsec_crypto". The refusal has no text.
func (p *PF) SetVFIPsec(vf int, capability string, on bool) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	name := fmt.Sprintf("%d %s", vf, capability)
	switch {
	case p.vfIPsec[name] == on:
		return nil
	case len(p.vfIPsec) == 0 && p.objects > 0:
		p.refused("VF function", &refusal{errno: unix.EBUSY, why: "the PF has IPsec objects"})
		return unix.EBUSY
	case on:
		p.vfIPsec[name] = true
	default:
		delete(p.vfIPsec, name)
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
	p.tell("admin down flushes %d states and %d policies", len(p.sas), len(p.policies))
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
