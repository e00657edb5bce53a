// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// socket is a NETLINK_XFRM socket that does not block. The kernel works on a
// request within the call that sends it, so its answers are there to be
// received when Send returns.
type socket interface {
	Send(b []byte) error
	// Receive gives the next datagram, EAGAIN when there is none left, and
	// ENOBUFS when the kernel had to drop answers.
	Receive(b []byte) (int, error)
	Close() error
}

// answer is one message of the kernel to one request: an acknowledgement, or
// an object in body, which is only valid until the callback returns.
type answer struct {
	typ  uint16
	body []byte
	ack  ack
}

// exchanger sends batches of requests and sorts the answers.
type exchanger struct {
	sock socket
	port uint32 // ours, also in every request: notifications repeat it
	seq  uint32
	out  []byte
	in   []byte
	open []int // requests of the batch that have no answer yet
}

// batchMax is the number of requests in one datagram. The kernel holds its
// XFRM lock (xfrm_cfg_mutex) for all of them, and with a NIC each takes
// firmware commands: an IKE daemon that wants to rekey waits as long. The
// answers to so many fit a receive buffer of the default size.
const batchMax = 64

// messageMax is more than the longest request, an inbound AddSA, takes. The
// send buffer must not grow: the old one would keep keys.
const messageMax = 512

// receiveLen is the size of the receive buffer. The kernel fills up to 32 KiB
// of a dump in one datagram if the buffer is as large (af_netlink.c).
const receiveLen = 64 << 10

func newExchanger(s socket, port uint32) *exchanger {
	return &exchanger{
		sock: s, port: port,
		out: make([]byte, 0, batchMax*messageMax), in: make([]byte, receiveLen),
	}
}

// batch sends n requests in one datagram, made by build, and calls got once
// for each answered one. It returns the requests without an answer: the
// kernel ran out of buffer, or was interrupted, and they may have been
// carried out or not. With an error nothing may be said of any of them.
func (x *exchanger) batch(n int, build func(b []byte, i int, h header) []byte, got func(i int, a answer)) ([]int, error) {
	first := x.seq + 1
	x.seq += uint32(n)
	x.open = x.open[:0]
	x.out = x.out[:0]
	for i := range n {
		h := header{flags: nlRequest, seq: first + uint32(i), port: x.port}
		x.out = build(x.out, i, h)
		x.open = append(x.open, i)
	}
	err := x.sock.Send(x.out)
	wipe(x.out)
	if err != nil {
		return nil, err
	}
	return x.open, x.collect(first, got)
}

// collect receives until every request of the batch is answered or the
// socket is empty.
func (x *exchanger) collect(first uint32, got func(i int, a answer)) error {
	for len(x.open) > 0 {
		n, err := x.sock.Receive(x.in)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return fmt.Errorf("receive from the kernel: %w", err)
		}
		eachMessage(x.in[:n], func(h header, body []byte) {
			if at, ok := slices.BinarySearch(x.open, int(h.seq-first)); ok {
				x.open = slices.Delete(x.open, at, at+1)
				got(int(h.seq-first), answerOf(h, body))
			}
		})
		wipe(x.in[:n])
	}
	return nil
}

// eachMessage calls f for the messages of a datagram.
func eachMessage(b []byte, f func(h header, body []byte)) {
	for {
		h, body, rest, ok := nextMessage(b)
		if !ok {
			return
		}
		f(h, body)
		b = rest
	}
}

func answerOf(h header, body []byte) answer {
	if h.typ != nlError {
		return answer{typ: h.typ, body: body}
	}
	a, ok := parseAck(h, body)
	if !ok {
		a.errno = unix.EBADMSG
	}
	return answer{typ: nlError, ack: a}
}

// errInterrupted says that the list changed while it was dumped, that the
// kernel lost a part of it, or that a dump torn before is still in its hands
// (EBUSY).
var errInterrupted = errors.New("dump interrupted")

// dump asks for every object of a kind and calls each for their messages.
// When stop says so the rest is received but not delivered: a socket with an
// unfinished dump is of no use.
func (x *exchanger) dump(typ uint16, stop func() error, each func(h header, body []byte)) error {
	x.seq++
	x.out = endMessage(beginMessage(x.out[:0], header{typ: typ, flags: nlRequest | nlDump, seq: x.seq, port: x.port}), 0)
	if err := x.sock.Send(x.out); err != nil {
		return err
	}
	d := dump{seq: x.seq, stop: stop, each: each}
	for !d.done {
		n, err := x.sock.Receive(x.in)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			d.torn = true
			continue
		case errors.Is(err, unix.EAGAIN):
			return errInterrupted
		case err != nil:
			return fmt.Errorf("receive from the kernel: %w", err)
		}
		eachMessage(x.in[:n], d.message)
		wipe(x.in[:n])
	}
	return d.result()
}

// dump is the state of a running dump.
type dump struct {
	seq  uint32
	stop func() error
	each func(h header, body []byte)

	done, torn bool
	end        ack
	err        error
}

func (d *dump) message(h header, body []byte) {
	if h.seq != d.seq {
		return
	}
	d.torn = d.torn || h.flags&nlDumpIntr != 0
	if d.err == nil {
		d.err = d.stop()
	}
	switch {
	case h.typ == nlDone:
		d.done, d.end = true, parseDone(h, body)
	case h.typ == nlError:
		d.done, d.end = true, answerOf(h, body).ack
	case d.err == nil:
		d.each(h, body)
	}
}

func (d *dump) result() error {
	switch {
	case d.err != nil:
		return d.err
	case d.end.errno == unix.EINTR, d.end.errno == unix.EBUSY, d.torn:
		return errInterrupted
	case d.end.errno != 0 && d.end.text != "":
		return fmt.Errorf("%w: %s", d.end.errno, d.end.text)
	case d.end.errno != 0:
		return d.end.errno
	}
	return nil
}
