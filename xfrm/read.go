// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// object is what the kernel holds under the name of an op.
type object struct {
	sa     *SA
	policy *Policy
}

func (o object) offload() Offload {
	switch {
	case o.sa != nil:
		return o.sa.Offload
	case o.policy != nil:
		return o.policy.Offload
	}
	return Offload{}
}

// is tells whether o is what op makes.
func (o object) is(op Op) bool {
	switch {
	case o.sa != nil && op.Kind.ofSA():
		return sameSA(op.SA, o.sa)
	case o.policy != nil && !op.Kind.ofSA():
		return samePolicy(op.Policy, o.policy)
	}
	return false
}

// sameSA tells whether the state got, of a dump, is the one that want asks for.
func sameSA(want, got *SA) bool {
	w, g := *want, *got
	w.KeyPrint, w.Key, w.Stats = want.Key.Fingerprint(), Key{}, g.Stats
	return w == g
}

// samePolicy tells whether the policy got, of a dump, is the one that want
// asks for.
func samePolicy(want, got *Policy) bool {
	w, g := *want, *got
	w.Sel.Src, w.Sel.Dst = w.Sel.Src.Masked(), w.Sel.Dst.Masked()
	w.Index, w.Tmpl, g.Tmpl = g.Index, nil, nil
	return w == g && sameTemplate(want.Tmpl, got.Tmpl, want.Sel.Dst.Addr())
}

func sameTemplate(want, got *Template, like netip.Addr) bool {
	if want == nil || got == nil {
		return want == got
	}
	w := *want
	w.Src, w.Dst = orWild(w.Src, like), orWild(w.Dst, like)
	return w == *got
}

// read asks for the objects of the ops whose numbers are in todo. It returns
// the numbers of those that it could not learn of.
func (c *Client) read(ops []Op, todo []int, found func(i int, o object, a ack)) (lost []int) {
	if len(todo) == 0 {
		return nil
	}
	var sa SA
	var policy Policy
	open, err := c.x.batch(len(todo),
		func(b []byte, i int, h header) []byte { return ops[todo[i]].appendGet(b, h) },
		func(i int, a answer) { found(todo[i], decodeObject(&a, &sa, &policy), a.ack) })
	if err != nil {
		return todo
	}
	for _, i := range open {
		lost = append(lost, todo[i])
	}
	return lost
}

// decodeObject reads an answer into sa or policy. What cannot be read becomes
// an error number in a.
func decodeObject(a *answer, sa *SA, policy *Policy) object {
	var err error
	var o object
	switch a.typ {
	case msgNewSA:
		o.sa, err = sa, decodeSA(a.body, sa)
	case msgNewPolicy:
		o.policy, err = policy, decodePolicy(a.body, policy)
	}
	if err != nil {
		a.ack.errno = unix.EBADMSG
	}
	return o
}

// SA returns the state of that name. errors.Is(err, unix.ESRCH) tells that
// there is none.
func (c *Client) SA(ctx context.Context, id SAID) (SA, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(ctx.Err(), checkAddr(id.Dst)); err != nil {
		return SA{}, fmt.Errorf("get SA %s: %w", saSubject(&SA{Dst: id.Dst, SPI: id.SPI}), err)
	}
	var sa SA
	err := error(errNoAnswer)
	op := Op{Kind: AddSA, SA: &SA{Dst: id.Dst, SPI: id.SPI}}
	c.read([]Op{op}, []int{0}, func(_ int, o object, a ack) {
		if err = a.err(); o.sa != nil {
			sa = *o.sa
		}
	})
	if err != nil {
		return SA{}, fmt.Errorf("get SA %s: %w", op.subject(), err)
	}
	return sa, nil
}

// err returns the error number with the driver's words, or nil.
func (a ack) err() error {
	switch {
	case a.errno == 0:
		return nil
	case a.text != "":
		return fmt.Errorf("%w: %s", a.errno, a.text)
	}
	return a.errno
}

// SAs lists every state, also those of others (see SA.Exotic).
func (c *Client) SAs(ctx context.Context) ([]SA, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := dumpAll(ctx, c.x, msgGetSA, c.states, func(h header, body []byte, s *SA) bool {
		return h.typ == msgNewSA && decodeSA(body, s) == nil
	})
	if err != nil {
		return nil, fmt.Errorf("list SAs: %w", err)
	}
	c.states = len(list)
	return list, nil
}

// Policies lists every policy, also those of others (see Policy.Exotic), but
// not those of a single socket, which IKE daemons set on their own.
func (c *Client) Policies(ctx context.Context) ([]Policy, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := dumpAll(ctx, c.x, msgGetPolicy, c.policies, func(h header, body []byte, p *Policy) bool {
		return h.typ == msgNewPolicy && decodePolicy(body, p) == nil && p.Dir <= Fwd
	})
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	c.policies = len(list)
	return list, nil
}

// dumpMax is how often an interrupted dump is begun anew.
const dumpMax = 5

// dumpAll dumps until a dump is not interrupted. room is the length to expect.
func dumpAll[T any](ctx context.Context, x *exchanger, typ uint16, room int, decode func(header, []byte, *T) bool) ([]T, error) {
	list := make([]T, 0, room+room/8)
	var one T // one for all: it escapes
	err := errInterrupted
	for try := 0; try < dumpMax && errors.Is(err, errInterrupted); try++ {
		list = list[:0]
		err = x.dump(typ, ctx.Err, func(h header, body []byte) {
			if decode(h, body, &one) {
				list = append(list, one)
			}
		})
	}
	return list, err
}
