// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many rules one system call deletes. Their
	// acknowledgements have to fit into a receive buffer of 208 KiB
	// (net.core.rmem_default), where each takes about 1 KiB.
	batchSize = 64
	// passes bounds how often rules that could not be deleted are looked for again.
	passes = 3
)

// Drain takes rules out of the hardware. The zero Drain is ready for use, in
// the network namespace of the calling thread.
//
// It is the fast way, for a leak that has to stop within milliseconds and for
// rules that an ovs-vswitchd which does not run left behind. The gentle way is
// flow-limit=0, after which OVS withdraws its rules itself. OVS does not notice
// a deletion: it keeps the flow in its books, refuses to install it again, and
// sends its packets through the slow path until the flow was missing from four
// dumps of the datapath (OVS 3.5), or for ever (before). So ovs-vswitchd has to be told
// revalidator/purge afterwards. What it does learn anew, such as a flow that
// was never in hardware, it offloads at once: the devices have to be fenced
// (hw-tc-offload off) before, or rules come while others go.
type Drain struct{}

// Delete deletes the flower rules in hardware of the given devices, device by
// device in their order, at their ingress and egress hooks, in all chains and
// shared blocks, and returns how many it deleted. A rule that is not in
// hardware or of another classifier stays. A rule or a device that is gone is
// no error; when others fail, Delete goes on and gives the reason in the end.
//
// The kernel knows a rule by a number that it gives to another one soon: a rule
// that OVS puts in the place of one it deletes in the same millisecond goes as
// well. Behind a fence it was a rule in software, and the purge brings it back.
func (Drain) Delete(ctx context.Context, ifindexes []int) (deleted int, err error) {
	if len(ifindexes) == 0 {
		return 0, ctx.Err()
	}
	s, err := open(ctx)
	if err != nil {
		return 0, fmt.Errorf("delete TC rules: %w", err)
	}
	defer func() { s.close() }()
	// A qdisc that goes while its rules are deleted shows as an invalid
	// argument: whether that was the reason shows in the next pass.
	for range passes {
		var n int
		n, err = s.drain(ifindexes)
		deleted += n
		if err == nil || ctx.Err() != nil {
			break
		}
		if again := s.renew(); again != nil {
			err = again
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("delete TC rules: %w", s.reason(err))
	}
	return deleted, err
}

// drain deletes what one look finds.
func (s *session) drain(ifindexes []int) (deleted int, err error) {
	qdiscs, err := s.qdiscs()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, p := range inOrder(places(qdiscs, ifindexes), ifindexes) {
		as, err := s.victims(p.hook)
		if err != nil {
			return deleted, fmt.Errorf("list rules of device %v: %w", p.devs, err)
		}
		for batch := range slices.Chunk(as, batchSize) {
			n, err := s.deleteBatch(p.hook, batch)
			deleted += n
			if err != nil {
				errs = append(errs, fmt.Errorf("device %v: %w", p.devs, err))
			}
			if s.ctx.Err() != nil {
				return deleted, s.ctx.Err()
			}
		}
	}
	return deleted, errors.Join(errs...)
}

// victims lists the flower rules of h that are in hardware; see tally.
func (s *session) victims(h hook) ([]victim, error) {
	as, err := s.list(h, true)
	if errors.Is(err, errNotTerse) || errors.Is(err, unix.EMSGSIZE) {
		if err = s.renew(); err == nil {
			as, err = s.list(h, false)
		}
	}
	return as, err
}

func (s *session) list(h hook, terse bool) ([]victim, error) {
	var as []victim
	err := s.dump(unix.RTM_GETTFILTER, h.request(terse), func() { as = nil }, func(b []byte) (bool, error) {
		if terse {
			if r, err := decodeRule(b); err != nil || !r.flower {
				return false, errors.Join(err, errNotTerse)
			}
		}
		a, ok, err := decodeVictim(b)
		if ok {
			as = append(as, a)
		}
		return err == nil, err
	})
	return as, err
}

// deleteBatch deletes rules of h with one system call. Each gets its answer.
func (s *session) deleteBatch(h hook, as []victim) (deleted int, err error) {
	requests := make([]netlink.Message, len(as))
	for i, a := range as {
		requests[i] = netlink.Message{Header: netlink.Header{Type: unix.RTM_DELTFILTER, Flags: netlink.Request | netlink.Acknowledge}, Data: h.deletion(a)}
	}
	if _, err := s.conn.SendMessages(requests); err != nil {
		return 0, err
	}
	var errs []error
	for range as {
		_, err := s.conn.Receive()
		switch {
		case err == nil:
			deleted++
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		case !answer(err):
			return deleted, err
		case len(errs) == 0: // the others have the same cause, as a rule
			errs = append(errs, err)
		}
	}
	return deleted, errors.Join(errs...)
}

// answer tells whether err is what the kernel answered to one request, and not
// an error of the socket.
func answer(err error) bool {
	e, ok := errors.AsType[*netlink.OpError](err)
	return ok && e.Sequence != 0
}
