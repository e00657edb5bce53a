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
	// bufferSize holds any datagram of a dump: the kernel fills at most 32 KiB
	// (netlink_dump in af_netlink.c).
	bufferSize = 64 << 10
	// attempts bounds how often a dump that the kernel calls inconsistent is
	// read again.
	attempts = 5
)

// Scanner asks the kernel which rules are in hardware, in the network
// namespace of the calling thread. The zero Scanner is ready for use, by
// several goroutines at once: each call has a socket of its own, so that a
// dump can be left in the middle.
//
// A report is not one moment's truth: rules come and go while it is read. It
// finds every rule that was there all the time.
type Scanner struct{}

// Offloaded counts the rules of the given devices, at their ingress and egress
// hooks, in all chains, those of shared blocks included. A rule of a block
// that several of the devices share is counted once in the totals and once for
// each of them in ByDev. A device that does not exist has no rules.
func (Scanner) Offloaded(ctx context.Context, ifindexes []int) (Report, error) {
	var r Report
	err := scan(ctx, ifindexes, func(p place, t tally) bool {
		r.add(p, t)
		return true
	}, nil)
	return r, err
}

// Any looks for a flower rule in hardware on one of the given devices and
// stops at the first. found is false when there is none.
func (Scanner) Any(ctx context.Context, ifindexes []int) (ifindex int, found bool, err error) {
	err = scan(ctx, ifindexes, func(p place, t tally) bool {
		if t.inHW > 0 {
			ifindex, found = slices.Min(p.devs), true
		}
		return !found
	}, func(r rule) bool { return r.inHW && r.flower })
	return ifindex, found, err
}

// Tunnels lists what the rules in hardware of the given devices do with tunnels,
// with the packets that the hardware counted. It is a full dump, several times
// as long as that of Offloaded, and makes the driver tell its counters.
func (Scanner) Tunnels(ctx context.Context, ifindexes []int) ([]TunnelRule, error) {
	var all []TunnelRule
	err := visit(ctx, ifindexes, func(s *session, p place) (bool, error) {
		before := len(all)
		return true, s.dump(unix.RTM_GETTFILTER, p.request(false), func() { all = all[:before] }, func(b []byte) (bool, error) {
			all = appendTunnels(all, b, slices.Min(p.devs))
			return true, nil
		})
	})
	return all, err
}

// scan tallies one hook after the other until each returns false. Within a
// hook it stops at the first rule for which enough, if not nil, is true.
func scan(ctx context.Context, ifindexes []int, each func(place, tally) bool, enough func(rule) bool) error {
	return visit(ctx, ifindexes, func(s *session, p place) (bool, error) {
		t, err := s.tally(p.hook, enough)
		return err == nil && each(p, t), err
	})
}

// visit goes to one hook after the other until each returns false or an error.
func visit(ctx context.Context, ifindexes []int, each func(*session, place) (bool, error)) error {
	if len(ifindexes) == 0 {
		return nil
	}
	s, err := open(ctx)
	if err != nil {
		return fmt.Errorf("scan TC rules: %w", err)
	}
	defer s.close()
	qdiscs, err := s.qdiscs()
	if err != nil {
		return fmt.Errorf("scan TC qdiscs: %w", s.reason(err))
	}
	for _, p := range places(qdiscs, ifindexes) {
		more, err := each(s, p)
		if err != nil {
			return fmt.Errorf("scan TC rules of device %v: %w", p.devs, s.reason(err))
		}
		if !more {
			break
		}
	}
	return nil
}

// session is one call's connection.
type session struct {
	ctx  context.Context
	conn *netlink.Conn
	stop func() bool
}

func open(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Strict: true, MessageBufferSize: bufferSize})
	if err != nil {
		return nil, err
	}
	return &session{ctx, conn, context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
}

func (s *session) close() {
	if s.stop() {
		_ = s.conn.Close()
	}
}

// reason returns why err came about: the end of ctx shows as a closed socket.
func (s *session) reason(err error) error {
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	return err
}

// qdiscs lists the ingress and clsact qdiscs of all devices.
func (s *session) qdiscs() ([]qdisc, error) {
	var qs []qdisc
	err := s.dump(unix.RTM_GETQDISC, tcmsg{}.append(nil), func() { qs = nil }, func(b []byte) (bool, error) {
		q, ok, err := decodeQdisc(b)
		if ok {
			qs = append(qs, q)
		}
		return true, err
	})
	return qs, err
}

// errNotTerse says that a terse dump does not show everything.
var errNotTerse = errors.New("not a flower filter")

// tally counts the rules of h, by a terse dump if possible. Only flower can
// dump tersely. The kernel skips the rules of another classifier or ends the
// dump with EMSGSIZE at the first of them, without the flower rules behind it
// (tcf_fill_node in cls_api.c); but it always announces them by a head.
func (s *session) tally(h hook, enough func(rule) bool) (tally, error) {
	t, err := s.count(h, true, enough)
	if errors.Is(err, errNotTerse) || errors.Is(err, unix.EMSGSIZE) {
		if err = s.renew(); err == nil {
			t, err = s.count(h, false, enough)
		}
	}
	return t, err
}

// count dumps the rules of h.
func (s *session) count(h hook, terse bool, enough func(rule) bool) (tally, error) {
	var t tally
	err := s.dump(unix.RTM_GETTFILTER, h.request(terse), func() { t = tally{} }, func(b []byte) (bool, error) {
		r, err := decodeRule(b)
		if err != nil {
			return false, err
		}
		if terse && !r.flower {
			return false, errNotTerse
		}
		r.count(&t)
		return enough == nil || !enough(r), nil
	})
	return t, err
}

// renew replaces the connection, which an unfinished dump still occupies.
func (s *session) renew() error {
	s.close()
	n, err := open(s.ctx)
	if err == nil {
		*s = *n
	}
	return err
}

// dump sends a dump request and calls each for every message until it returns
// false or an error; the connection is closed then, for the rest of the dump
// is never read. restart is called before each attempt.
func (s *session) dump(typ uint16, req []byte, restart func(), each func(b []byte) (bool, error)) error {
	for range attempts {
		restart()
		again, err := s.dumpOnce(typ, req, each)
		if err != nil || !again {
			return err
		}
	}
	return errors.New("rules changed too often while they were read")
}

// dumpOnce returns whether the kernel called the dump inconsistent.
func (s *session) dumpOnce(typ uint16, req []byte, each func(b []byte) (bool, error)) (again bool, err error) {
	_, err = s.conn.Send(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | netlink.Dump}, Data: req})
	if err != nil {
		return false, err
	}
	for m, err := range s.conn.ReceiveIter() {
		if err != nil {
			return false, err
		}
		again = again || m.Header.Flags&netlink.DumpInterrupted != 0
		more, err := each(m.Data)
		if err != nil || !more {
			s.close()
			return false, err
		}
	}
	return again, nil
}
