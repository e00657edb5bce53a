// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Client changes and lists the states and policies of one network namespace.
// It is safe for concurrent use; calls are carried out one after the other.
type Client struct {
	mu   sync.Mutex
	x    *exchanger
	feat features

	states, policies int // the length of the last dump, to make room for the next
}

// newClient returns a Client on a socket whose port id is port, after it has
// asked the kernel what it knows.
func newClient(s socket, port uint32) (*Client, error) {
	c := &Client{x: newExchanger(s, port)}
	if err := c.probe(); err != nil {
		return nil, err
	}
	return c, nil
}

// probe learns whether the kernel knows XFRMA_SA_DIR.
func (c *Client) probe() error {
	var a ack
	build := func(b []byte, _ int, h header) []byte { return appendDirProbe(b, h) }
	lost, err := c.x.batch(1, build, func(_ int, got answer) { a = got.ack })
	switch {
	case err != nil:
		return err
	case len(lost) > 0:
		return errNoAnswer
	case a.errno == unix.EPERM:
		return a.errno
	}
	c.feat.saDir = a.errno == unix.ERANGE || a.errno == unix.EINVAL
	return nil
}

// PortID returns the netlink port id of the client. Notifications of what it
// did carry it (Event.PortID).
func (c *Client) PortID() uint32 { return c.x.port }

// Close closes the socket.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.x.sock.Close()
}

// errNoAnswer is given when the kernel's answer was lost time and again.
var errNoAnswer = fmt.Errorf("the kernel gave no answer: %w", unix.ENOBUFS)

// Do carries out ops in their order and returns one result for each: nil or
// an *OpError. It goes on after a failure, so an op that must only happen if
// another succeeded belongs in a later call.
//
// What was to be offloaded is read back: a kernel without XFRM offload
// acknowledges it and does nothing, and one that does not find the device
// takes another (net/xfrm/xfrm_device.c). If it is not on its device it is
// deleted again and the result has NotOffloaded set.
//
// When ctx ends, what is under way is finished and the rest gets its error.
func (c *Client) Do(ctx context.Context, ops []Op) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(ops))
	for from := 0; from < len(ops); from += batchMax {
		to := min(from+batchMax, len(ops))
		if err := ctx.Err(); err != nil {
			failAll(ops[from:], errs[from:], err)
			return errs
		}
		c.do(ops[from:to], errs[from:to])
	}
	return errs
}

// do carries out one batch.
func (c *Client) do(ops []Op, errs []error) {
	var todo []int
	for i, op := range ops {
		if err := op.check(); err != nil {
			errs[i] = &OpError{Kind: op.Kind, Subject: op.subject(), Err: err}
			continue
		}
		todo = append(todo, i)
	}
	for _, i := range c.send(ops, todo, errs) {
		errs[i] = c.resend(ops[i])
	}
	c.verify(ops, todo, errs)
}

// send sends the ops whose numbers are in todo, files their results and
// returns the numbers of those without one.
func (c *Client) send(ops []Op, todo []int, errs []error) (lost []int) {
	build := func(b []byte, i int, h header) []byte {
		h.flags |= nlAck
		return ops[todo[i]].append(b, h, c.feat)
	}
	got := func(i int, a answer) {
		if a.ack.errno != 0 {
			errs[todo[i]] = opError(ops[todo[i]], a.ack)
		}
	}
	open, err := c.x.batch(len(todo), build, got)
	if err != nil {
		for _, i := range todo {
			errs[i] = &OpError{Kind: ops[i].Kind, Subject: ops[i].subject(), Err: err}
		}
		return nil
	}
	for _, i := range open {
		lost = append(lost, todo[i])
	}
	return lost
}

// resendMax is how often an op without an answer is sent again.
const resendMax = 3

// resend sends an op whose answer was lost. That the object is there, or
// gone, may then be the op's own doing.
func (c *Client) resend(op Op) error {
	errs := make([]error, 1)
	for range resendMax {
		errs[0] = nil
		if len(c.send([]Op{op}, []int{0}, errs)) > 0 {
			continue
		}
		if errors.Is(errs[0], unix.EEXIST) && c.stands(op) {
			return nil
		}
		if !op.Kind.makes() && (errors.Is(errs[0], unix.ESRCH) || errors.Is(errs[0], unix.ENOENT)) {
			return nil
		}
		if op.Kind.makes() && errors.Is(errs[0], unix.EEXIST) {
			break // it may be what the first try made: nobody can tell
		}
		return errs[0]
	}
	return &OpError{Kind: op.Kind, Subject: op.subject(), Err: errNoAnswer}
}

// stands tells whether the kernel holds just what op makes.
func (c *Client) stands(op Op) bool {
	stands := false
	c.read([]Op{op}, []int{0}, func(_ int, found object, a ack) {
		stands = a.errno == 0 && found.is(op)
	})
	return stands
}

// verify reads back what was to be offloaded, and removes what is not.
func (c *Client) verify(ops []Op, todo []int, errs []error) {
	var ask []int
	for _, i := range todo {
		if errs[i] == nil && ops[i].offload().Ifindex != 0 {
			ask = append(ask, i)
		}
	}
	var wrong []int
	lost := c.read(ops, ask, func(i int, found object, a ack) {
		if why, ok := misplaced(ops[i], found, a); ok {
			errs[i] = &OpError{Kind: ops[i].Kind, Subject: ops[i].subject(), NotOffloaded: true, Ext: why}
			wrong = append(wrong, i)
		}
	})
	for _, i := range lost {
		errs[i] = &OpError{Kind: ops[i].Kind, Subject: ops[i].subject(), Err: errNoAnswer}
	}
	c.remove(ops, wrong, errs)
}

// misplaced tells whether an object is not on the device it was meant for,
// and where it is instead.
func misplaced(op Op, found object, a ack) (why string, wrong bool) {
	want, got := op.offload(), found.offload()
	switch {
	case a.errno != 0:
		return "it is gone: " + a.errno.Error(), true
	case got == want:
		return "", false
	case got.Ifindex == 0:
		return "", true
	case got.Ifindex != want.Ifindex:
		return fmt.Sprintf("it is on interface %d, not %d", got.Ifindex, want.Ifindex), true
	}
	return "it is not packet offload", true
}

// remove deletes what was misplaced; that it cannot goes into its error.
func (c *Client) remove(ops []Op, wrong []int, errs []error) {
	if len(wrong) == 0 {
		return
	}
	back := make([]Op, len(ops))
	for _, i := range wrong {
		back[i] = ops[i].reverse()
	}
	failed := make([]error, len(ops))
	for _, i := range c.send(back, wrong, failed) {
		failed[i] = c.resend(back[i])
	}
	for _, i := range wrong {
		if failed[i] != nil && !isGone(failed[i]) {
			errs[i].(*OpError).Err = failed[i]
		}
	}
}

// isGone tells whether a deletion failed because there was nothing to delete.
func isGone(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT)
}

// failAll gives every op the same error.
func failAll(ops []Op, errs []error, err error) {
	for i, op := range ops {
		errs[i] = &OpError{Kind: op.Kind, Subject: op.subject(), Err: err}
	}
}

func opError(op Op, a ack) *OpError {
	return &OpError{Kind: op.Kind, Subject: op.subject(), Errno: a.errno, Ext: a.text}
}
