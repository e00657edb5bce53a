// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"errors"
	"fmt"

	"github.com/safchain/ethtool"
	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// featureTC is the ethtool feature that lets a NIC take TC rules.
const featureTC = "hw-tc-offload"

// Fence turns hw-tc-offload of devices off and on. Off keeps new rules out of
// the hardware; what is there stays. A representor decides for the rules that
// are attached to it, a PF for those of the tunnel devices and its own
// (mlx5e_configure_flower in en_tc.c). A new representor begins with it on.
// Turning it on brings no rule back: OVS has to add it anew.
//
// The zero Fence is ready for use, by several goroutines at once.
type Fence struct{}

// FenceError says that a device keeps hw-tc-offload as it was.
type FenceError struct {
	Link  Link
	On    bool // it was to be turned on
	Fixed bool // the device's driver cannot switch it at all
}

// Error tells the cause and the remedy.
func (e *FenceError) Error() string {
	state := map[bool]string{true: "on", false: "off"}[e.On]
	switch {
	case e.Fixed:
		return fmt.Sprintf("turn %s of %s %s: its driver cannot switch it", featureTC, e.Link.Name, state)
	case e.On:
		return fmt.Sprintf("turn %s of %s on: its driver refused; the kernel log says why", featureTC, e.Link.Name)
	}
	return fmt.Sprintf("turn %s of %s off: its driver refused, which mlx5 does while rules of tunnel devices or of the PF are in its hardware; "+
		"make OVS withdraw them first: `ovs-vsctl set Open_vSwitch . other_config:flow-limit=0`", featureTC, e.Link.Name)
}

// Code returns the stable code of the refusal.
func (e *FenceError) Code() string {
	if e.Fixed {
		return "GATE_FENCE_FIXED"
	}
	return "GATE_FENCE_BUSY"
}

// Set switches the devices of the given indexes in their order and goes on
// after a failure. changed lists those that were not yet as wanted and are now.
// A device that is gone, or goes meanwhile, is left out. The errors of devices
// that did not obey are *FenceError.
func (Fence) Set(ctx context.Context, ifindexes []int, on bool) (changed []int, err error) {
	if len(ifindexes) == 0 {
		return nil, ctx.Err()
	}
	h, err := handle(ctx)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	defer h.Close()
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("fence: open ethtool: %w", err)
	}
	defer e.Close()
	var errs []error
	for _, i := range ifindexes {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		did, err := switchDevice(h, e, i, on)
		errs = append(errs, err)
		if did {
			changed = append(changed, i)
		}
	}
	return changed, errors.Join(errs...)
}

// Offloading returns those of the devices whose hw-tc-offload is on. A device
// that is gone is left out.
func (Fence) Offloading(ctx context.Context, ifindexes []int) ([]int, error) {
	h, err := handle(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", featureTC, err)
	}
	defer h.Close()
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("read %s: open ethtool: %w", featureTC, err)
	}
	defer e.Close()
	var on []int
	for _, i := range ifindexes {
		is, err := offloading(h, e, i)
		if err != nil {
			return on, fmt.Errorf("read %s of device %d: %w", featureTC, i, err)
		}
		if is {
			on = append(on, i)
		}
	}
	return on, nil
}

func offloading(h *rtnl.Handle, e *ethtool.Ethtool, ifindex int) (bool, error) {
	l, err := h.LinkByIndex(ifindex)
	var s ethtool.FeatureState
	if err == nil {
		s, err = feature{e, Link{ifindex, l.Attrs().Name}}.state()
	}
	if _, gone := errors.AsType[rtnl.LinkNotFoundError](err); gone || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return s.Active, err
}

// switchDevice switches one device, if it is there, and tells whether it did.
func switchDevice(h *rtnl.Handle, e *ethtool.Ethtool, ifindex int, on bool) (bool, error) {
	l, err := h.LinkByIndex(ifindex)
	if err == nil {
		f := feature{e, Link{ifindex, l.Attrs().Name}}
		var did bool
		if did, err = f.set(on); err == nil {
			return did, nil
		}
	}
	if _, gone := errors.AsType[rtnl.LinkNotFoundError](err); gone || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if _, refused := errors.AsType[*FenceError](err); refused {
		return false, err
	}
	return false, fmt.Errorf("fence device %d: %w", ifindex, err)
}

// feature is hw-tc-offload of one device.
type feature struct {
	*ethtool.Ethtool
	Link
}

// set switches the feature. The kernel answers a refusal of the driver with
// success and keeps what was asked for as a wish, which it tries again at any
// other change of a feature, but not when it is wished once more
// (__netdev_update_features). So the state is read again, and a wish that was
// not granted is taken back.
func (f feature) set(on bool) (changed bool, err error) {
	s, err := f.state()
	switch {
	case err != nil:
		return false, err
	case s.Active == on && s.Requested == on:
		return false, nil
	case s.Active != on && !s.Available:
		return false, &FenceError{f.Link, on, true}
	case s.Active != on && s.Requested == on:
		if err := f.wish(!on); err != nil {
			return false, err
		}
	}
	was := s.Active
	if err = f.wish(on); err == nil {
		s, err = f.state()
	}
	if err == nil && s.Active != on {
		err = errors.Join(&FenceError{Link: f.Link, On: on}, f.wish(!on))
	}
	return was != on && err == nil, err
}

func (f feature) state() (ethtool.FeatureState, error) {
	all, err := f.FeaturesWithState(f.Name)
	return all[featureTC], err
}

func (f feature) wish(on bool) error { return f.Change(f.Name, map[string]bool{featureTC: on}) }
