// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many rules go with one system call. Their
	// acknowledgements have to fit into a receive buffer of 208 KiB
	// (net.core.rmem_default), where each takes about 1 KiB.
	batchSize = 64
	// passes bounds how often rules that could not be taken out are looked for again.
	passes = 3
)

// Drain takes rules out of the hardware. The zero Drain is ready for use, in
// the network namespace of the calling thread.
//
// It is the fast way, for a leak that has to stop within milliseconds and for
// rules that an ovs-vswitchd which does not run left behind. The gentle way is
// flow-limit=0, after which OVS withdraws its rules itself.
//
// The rules stay, in software: each is replaced by itself with skip_hw. To
// delete one behind the back of OVS would harm it for as long as ovs-vswitchd
// runs. It keeps the number of every rule it made, and when it cannot delete the
// rule of that number it keeps the number still (del_filter_and_ufid_mapping in
// lib/netdev-offload-tc.c, up to 3.7 at least). The kernel gives the number to
// the next rule, of another flow, which OVS then deletes in the first one's
// place; so flows go on to fall out of hardware one by one.
//
// OVS does not put back what was taken out before it is told revalidator/purge.
// But what it learns anew it offloads at once: the devices have to be fenced
// (hw-tc-offload off) before, or rules come while others go.
type Drain struct{}

// Evict takes the flower rules of the given devices out of the hardware, device
// by device in their order, at their ingress and egress hooks, in all chains and
// shared blocks, and returns how many it took. Rules of other classifiers stay
// where they are. A rule or a device that is gone is no error; when others fail,
// Evict goes on and gives the reason in the end. Only a rule that cannot be in
// software (skip_sw), or that the kernel does not take back, is deleted.
//
// The kernel knows a rule by a number that it gives to another one soon: a rule
// that OVS puts in the place of one it deletes in the same millisecond becomes
// the old one again, until the purge. While OVS is held it puts none.
func (Drain) Evict(ctx context.Context, ifindexes []int) (taken int, err error) {
	if len(ifindexes) == 0 {
		return 0, ctx.Err()
	}
	s, err := open(ctx)
	if err != nil {
		return 0, fmt.Errorf("take TC rules out of hardware: %w", err)
	}
	defer func() { s.close() }()
	// A qdisc that goes meanwhile shows as an invalid argument: whether that
	// was the reason shows in the next pass.
	for range passes {
		var n int
		n, err = s.drain(ifindexes)
		taken += n
		if err == nil || ctx.Err() != nil {
			break
		}
		if again := s.renew(); again != nil {
			err = again
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("take TC rules out of hardware: %w", s.reason(err))
	}
	return taken, err
}

// drain takes out what one look finds.
func (s *session) drain(ifindexes []int) (taken int, err error) {
	qdiscs, err := s.qdiscs()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, p := range inOrder(places(qdiscs, ifindexes), ifindexes) {
		vs, err := s.victims(p.hook)
		if err != nil {
			return taken, fmt.Errorf("list rules of device %v: %w", p.devs, err)
		}
		for batch := range slices.Chunk(vs, batchSize) {
			n, err := s.evict(p.hook, batch)
			taken += n
			if err != nil {
				errs = append(errs, fmt.Errorf("device %v: %w", p.devs, err))
			}
			if s.ctx.Err() != nil {
				return taken, s.ctx.Err()
			}
		}
	}
	return taken, errors.Join(errs...)
}

// victims lists the flower rules of h that are in hardware.
func (s *session) victims(h hook) ([]victim, error) {
	var vs []victim
	err := s.dump(unix.RTM_GETTFILTER, h.request(false), func() { vs = nil }, func(b []byte) (bool, error) {
		v, ok, err := decodeVictim(b)
		if ok {
			vs = append(vs, v)
		}
		return err == nil, err
	})
	return vs, err
}

// evict takes rules of h out of the hardware, and deletes those that cannot stay
// in software.
func (s *session) evict(h hook, vs []victim) (taken int, err error) {
	var stay, leave []victim
	for _, v := range vs {
		if v.options == nil {
			leave = append(leave, v)
		} else {
			stay = append(stay, v)
		}
	}
	taken, refused, err := s.ask(unix.RTM_NEWTFILTER, stay, h.change)
	if refused == nil && err != nil {
		return taken, err
	}
	n, _, err := s.ask(unix.RTM_DELTFILTER, append(leave, refused...), h.deletion)
	return taken + n, err
}

// ask sends a request for each of vs in one system call, and returns how many
// were carried out. refused holds those that the kernel refused although their
// rule is there, and err is its first reason; without refused the socket failed.
func (s *session) ask(typ netlink.HeaderType, vs []victim, request func(victim) []byte) (done int, refused []victim, err error) {
	if len(vs) == 0 {
		return 0, nil, nil
	}
	requests := make([]netlink.Message, len(vs))
	for i, v := range vs {
		requests[i] = netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request | netlink.Acknowledge}, Data: request(v)}
	}
	if _, err := s.conn.SendMessages(requests); err != nil {
		return 0, nil, err
	}
	var first error
	for _, v := range vs { // the kernel answers in order
		_, err := s.conn.Receive()
		switch {
		case err == nil:
			done++
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		case !answer(err):
			return done, nil, err
		default:
			refused = append(refused, v)
			first = cmp.Or(first, err)
		}
	}
	return done, refused, first
}

// answer tells whether err is what the kernel answered to one request, and not
// an error of the socket.
func answer(err error) bool {
	e, ok := errors.AsType[*netlink.OpError](err)
	return ok && e.Sequence != 0
}
