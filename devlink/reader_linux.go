// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// Reader reads the facts of the network namespace of the calling thread. It
// opens its sockets for each reading and closes them after it, so there is no
// connection to lose; one reading costs a link, an address and a devlink port
// dump and a handful of requests per PF, not per VF.
//
// A Reader may be used by several goroutines at once.
type Reader struct {
	mu          sync.Mutex
	lateByIndex map[int]bool
}

// NewReader returns a Reader.
func NewReader() *Reader {
	return &Reader{lateByIndex: make(map[int]bool)}
}

// Facts reads the facts. Without CAP_NET_ADMIN the kernel does not tell the
// mode of an eswitch: Facts then returns what it could read, and an error.
// When it cannot even list devices, the facts are empty but for the kernel.
//
// Requests that the kernel answers only after it got a lock (a NIC in reset)
// cannot be cut short; Facts returns soon after ctx ended, not at once.
func (r *Reader) Facts(ctx context.Context) (Facts, error) {
	o, err := r.observe(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("read NIC facts: %w", err)
	}
	return assemble(o), err
}

// observe asks all interfaces of the kernel.
func (r *Reader) observe(ctx context.Context) (observed, error) {
	var o observed
	var err error
	if o.kernel, err = kernel(); err != nil {
		return o, err
	}
	if o.links, o.addrs, err = devices(ctx); err != nil {
		return o, err
	}
	c, err := dial(ctx)
	if err != nil || c == nil {
		return o, err
	}
	defer c.close()
	if o.ports, err = c.ports(); err != nil {
		return o, err
	}
	err = r.features(&o)
	return o, errors.Join(err, c.modes(&o))
}

// modes asks devlink about every uplink in o. An eswitch that gives an error
// instead of its mode is one of unknown mode; that is an error of the whole
// only if the NIC can do IPsec, for any other NIC may be as broken as it likes.
func (c *client) modes(o *observed) error {
	o.eswitches, o.params = make(map[string]eswitch), make(map[string]params)
	var errs []error
	for p, l := range o.uplinks() {
		if err := c.uplink(p.handles(l), o); err != nil && o.nics[l.Ifindex].esp {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// uplink asks the first of the instances that has an eswitch.
func (c *client) uplink(handles []string, o *observed) error {
	for _, h := range handles {
		e, found, err := c.eswitch(h)
		if !found && err == nil {
			continue
		}
		o.eswitches[h] = e
		if err == nil {
			o.params[h], err = c.params(h)
		}
		return err
	}
	return nil
}

// features asks ethtool about every uplink in o.
func (r *Reader) features(o *observed) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("open ethtool: %w", err)
	}
	defer e.Close()
	o.nics = make(map[int]nic)
	var errs []error
	for _, l := range o.uplinks() {
		n, found, err := r.nic(e, l.Link)
		errs = append(errs, err)
		if found {
			o.nics[l.Ifindex] = n
		}
	}
	return errors.Join(errs...)
}

// kernel returns the version of the running kernel.
func kernel() (Kernel, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Kernel{}, fmt.Errorf("read kernel release: %w", err)
	}
	// Only Ubuntu has this file.
	signature, err := os.ReadFile("/proc/version_signature")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Kernel{}, fmt.Errorf("read kernel version: %w", err)
	}
	return ParseKernel(unix.ByteSliceToString(u.Release[:]), string(signature))
}
