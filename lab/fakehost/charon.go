// SPDX-License-Identifier: Apache-2.0

package fakehost

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/ike"
	"ovs-ipsec-offload/xfrm"
)

// Charon is an IKE daemon, as strongSwan's behaves in the kernel: it owns the SAs
// of its children and their policies, deletes a policy before its SA, and leaves
// everything when it is killed. It does nothing by itself: what it and the peers
// do is a call of Answer and the like. It runs from the start.
type Charon struct {
	// Hangs tells that it repeats without end what the NIC refuses, as strongSwan
	// does with EBUSY, and answers nobody meanwhile.
	Hangs bool

	h       *Host
	mu      sync.Mutex
	started time.Time // zero: it does not run
	wants   []ike.Conn
	live    map[string][]*ikeChild // by Conn.Name
	made    uint32                 // SAs, ever
	renew   []string               // asked for
	asked   []string               // new keys were asked for, ever
	refused map[string]bool        // the NIC did not take an SA of it
}

// ikeChild is a child SA: a state and a policy in either direction.
type ikeChild struct {
	name     string
	in, out  *xfrm.SA
	policies []*xfrm.Policy
	at       time.Time
}

func newCharon(h *Host) *Charon {
	return &Charon{h: h, started: h.Clock.Now(), live: map[string][]*ikeChild{}, refused: map[string]bool{}}
}

// Auths implements plugin.Credentials: every port has a psk.
func (*Charon) Auths(snap *ovsdb.Snapshot) (map[string]plugin.AuthResult, []plugin.Problem) {
	m := map[string]plugin.AuthResult{}
	for _, t := range snap.Tunnels {
		m[t.Name] = plugin.AuthResult{Auth: ike.Auth{PSK: ike.NewSecret([]byte(t.Name))}}
	}
	return m, nil
}

// Want implements plugin.IKE. It takes effect when the peers answer.
func (c *Charon) Want(conns []ike.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wants = conns
}

// Renew implements plugin.IKE. The peers answer to it later.
func (c *Charon) Renew(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew = append(c.renew, name)
}

// Rekey implements plugin.IKE likewise.
func (c *Charon) Rekey(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, name)
}

// Asked returns the connections that new keys were asked for.
func (c *Charon) Asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked)
}

// State implements plugin.IKE.
func (c *Charon) State() ike.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := ike.State{Conns: map[string]ike.ConnState{}}
	if c.started.IsZero() {
		st.Problem = &ike.Problem{Code: ike.CodeDown, Text: "the IKE daemon does not answer"}
	} else {
		st.Daemon = "charon"
	}
	for _, w := range c.wants {
		s := ike.ConnState{Phase: ike.Connecting}
		for _, k := range c.live[w.Name] {
			s.Children = append(s.Children, ike.Child{Name: k.name, SPIIn: k.in.SPI, SPIOut: k.out.SPI, Installed: k.at})
		}
		if len(s.Children) > 0 {
			s.Phase = ike.Up
		}
		if c.refused[w.Name] && c.Hangs {
			st.Problem, st.Daemon = &ike.Problem{Code: ike.CodeStuck, Text: "the IKE daemon does not answer"}, ""
		} else if c.refused[w.Name] {
			s.Problem = &ike.Problem{Code: ike.CodeInstall, Text: "the NIC refused an SA"}
		}
		st.Conns[w.Name] = s
	}
	return st
}

// Answer lets the peers answer: what is wanted comes up, what is not goes.
func (c *Charon) Answer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started.IsZero() {
		return nil
	}
	var err error
	for _, name := range c.renew {
		c.end(ctx, name)
	}
	c.renew = nil
	for name := range c.live {
		if !slices.ContainsFunc(c.wants, func(w ike.Conn) bool { return w.Name == name }) {
			c.end(ctx, name)
		}
	}
	for _, w := range c.wants {
		switch {
		case len(c.live[w.Name]) == 0:
			err = errors.Join(err, c.establish(ctx, w))
		case c.refused[w.Name]:
			err = errors.Join(err, c.rekey(ctx, w))
		}
	}
	return err
}

// Replace replaces all children by new ones: the new SA stands before the old goes.
func (c *Charon) Replace(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for _, w := range c.wants {
		err = errors.Join(err, c.rekey(ctx, w))
	}
	return err
}

func (c *Charon) rekey(ctx context.Context, w ike.Conn) error {
	old := c.live[w.Name]
	if len(old) == 0 {
		return nil
	}
	if err := c.establish(ctx, w); err != nil || c.refused[w.Name] {
		return err
	}
	for _, k := range old {
		c.drop(ctx, k)
	}
	return nil
}

// End lets the peers delete all children.
func (c *Charon) End(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.live {
		c.end(ctx, name)
	}
}

// Kill ends the daemon and nothing else; Stop lets it clear away first. Start
// starts it: it knows nothing of what the one before has left.
func (c *Charon) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started, c.live = time.Time{}, map[string][]*ikeChild{}
}

// Stop ends the daemon in order.
func (c *Charon) Stop(ctx context.Context) {
	c.End(ctx)
	c.Kill()
}

// Start starts the daemon.
func (c *Charon) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = c.h.Clock.Now()
}

func (c *Charon) end(ctx context.Context, name string) {
	for _, k := range c.live[name] {
		for _, p := range k.policies {
			c.h.Do(ctx, []xfrm.Op{{Kind: xfrm.DeletePolicy, Policy: p}})
		}
		c.drop(ctx, k)
	}
	delete(c.live, name)
}

// drop deletes a child's SAs. One may be gone, by a flush for instance.
func (c *Charon) drop(ctx context.Context, k *ikeChild) {
	for _, s := range []*xfrm.SA{k.in, k.out} {
		c.h.Do(ctx, []xfrm.Op{{Kind: xfrm.DeleteSA, SA: s}})
	}
}

// establish installs both children of a connection: SAs, then policies.
func (c *Charon) establish(ctx context.Context, w ike.Conn) error {
	facts, err := c.h.Facts(ctx)
	if err != nil {
		return err
	}
	var ks []*ikeChild
	c.refused[w.Name] = false
	for _, name := range w.Children() {
		k, err := c.child(ctx, w, name, facts.Addrs[w.Local].Ifindex)
		if err != nil {
			c.refused[w.Name] = true
			for _, k := range ks {
				c.drop(ctx, k)
			}
			return nil
		}
		ks = append(ks, k)
	}
	c.live[w.Name] = ks
	return nil
}

func (c *Charon) child(ctx context.Context, w ike.Conn, name string, pf int) (*ikeChild, error) {
	reqid, out, in := w.ReqidOut, xfrm.Selector{DstPort: w.Port}, xfrm.Selector{SrcPort: w.Port}
	switch name {
	case ike.In:
		reqid, out, in = w.ReqidIn, in, out
	case ike.Both:
		out, in = xfrm.Selector{}, xfrm.Selector{}
	}
	dev := xfrm.Offload{Ifindex: pf, Packet: true}
	k := &ikeChild{name: name, at: c.h.Clock.Now(),
		in:  &xfrm.SA{Src: w.Remote, Dst: w.Local, Dir: xfrm.In, Reqid: reqid, ESN: true, Window: 256, Offload: dev},
		out: &xfrm.SA{Src: w.Local, Dst: w.Remote, Dir: xfrm.Out, Reqid: reqid, ESN: true, Offload: dev}}
	for _, s := range []*xfrm.SA{k.in, k.out} {
		c.made++
		s.SPI, s.Key = 0xc0000000+c.made, keyOf(c.made)
		if err := c.h.Do(ctx, []xfrm.Op{{Kind: xfrm.AddSA, SA: s}})[0]; err != nil {
			return nil, err
		}
	}
	for _, s := range []*xfrm.SA{k.in, k.out} {
		sel := out
		if s.Dir == xfrm.In {
			sel = in
		}
		sel.Src, sel.Dst, sel.Proto = single(s.Src), single(s.Dst), 17
		p := &xfrm.Policy{Dir: s.Dir, Sel: sel, Priority: charonPriority, Action: xfrm.Allow, Offload: dev,
			Tmpl: &xfrm.Template{Src: s.Src, Dst: s.Dst, Reqid: reqid}}
		k.policies = append(k.policies, p)
		// It updates what has the place already.
		if c.h.Do(ctx, []xfrm.Op{{Kind: xfrm.AddPolicy, Policy: p}})[0] != nil {
			if err := c.h.Do(ctx, []xfrm.Op{{Kind: xfrm.UpdatePolicy, Policy: p}})[0]; err != nil {
				return nil, err
			}
		}
	}
	return k, nil
}

// charonPriority is what strongSwan 6.0 gives to policies of such selectors.
const charonPriority = 366911

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func keyOf(n uint32) xfrm.Key {
	b := make([]byte, xfrm.KeyLen)
	binary.BigEndian.PutUint32(b, n)
	b[len(b)-1] = 1
	k, _ := xfrm.NewKey(b)
	return k
}
