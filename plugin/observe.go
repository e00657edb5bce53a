// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"time"

	"ovs-ipsec-offload/xfrm"
)

// Observed is what stands in the kernel and the NICs, at one moment.
type Observed struct {
	SAs      []xfrm.SA     // ours, and those an IKE daemon made for our pairs
	Policies []xfrm.Policy // likewise
	// Wide holds what a policy really matches that an IKE daemon made for all UDP
	// between two hosts, by the place that it has among Policies.
	Wide map[place]xfrm.Selector
	// Aside are those of them whose place another policy has.
	Aside []Aside
	// Negotiated holds the pairs of the SAs that an IKE daemon made.
	Negotiated map[xfrm.SAID]Pair
	carriers   map[stream]*xfrm.SA // the newest of them for each stream
	ids        reqids
	// Foreign counts the offloaded objects of others, by PF and direction:
	// they hold the NIC's tables too, but are not ours to count on.
	Foreign map[int]Refs
	// Strangers are those of them that may be for pairs of ours.
	Strangers Strangers
	// Inbound is the number of inbound SAs, whoever they are of, by PF.
	Inbound map[int]int
	// Flows is the number of flow rules in hardware, by PF. A PF that is
	// missing was not scanned, since its tables stand and nothing is refused
	// because of flows.
	Flows map[int]int
	// OnPF is the part of Flows that the PF itself holds, without PFs that hold none.
	OnPF map[int]int
	// Remake holds PFs whose tables were made in an encap-mode that excludes
	// tunnel mode, which a pair wants now: mlx5 decides that once, when a table
	// is made (allow_tunnel_mode in en_accel/ipsec_fs.c).
	Remake map[int]bool
	// GateOpen tells that OVS may offload: hw-offload is "true".
	GateOpen bool
	// Holding is why flows are held back now; "" when they are not.
	Holding Why
	// Loose tells that the database no longer says so: its record is gone, or
	// flow-limit is not 0 any more.
	Loose bool
	// Protected holds PFs whose guards stood earlier in this boot: flows without
	// tables are then a loss, and not a host that was never protected.
	Protected map[int]bool
	// Strict holds PFs that take no SA while a flow is in hardware (Linux 6.17.4 and newer).
	Strict map[int]bool
	// Resting tells that flows were held for SAs a moment ago, and that the next
	// ones have to wait.
	Resting bool
	// Refused holds the pairs of which the IKE daemon says that the NIC refused an
	// SA; HeldFor is how long flows are held back.
	Refused map[Pair]bool
	HeldFor time.Duration
	// GaveUp tells that a retrofit was tried and failed too often.
	GaveUp bool
	// PutOff holds pairs that are not tried now: they failed and wait for their next
	// try, or for room in the NIC.
	PutOff map[Pair]bool
	// UnwantedFor says how long an SA has not been wanted; RetireAfter is how
	// long such an SA is kept, so that a port deleted and added again finds it.
	UnwantedFor map[xfrm.SAID]time.Duration
	RetireAfter time.Duration
	// IdleFor says the same of the blocks of pairs in NICs without priorities.
	IdleFor map[place]time.Duration
	// Pushed holds the key sets that the operator turns pairs to without a proof that
	// the peer has them.
	Pushed map[Pair]string
	// Spent holds outbound keys that were installed once.
	Spent func(xfrm.Fingerprint) bool
}

// Refs counts what holds the tables of a PF.
type Refs struct{ RX, TX int }

// add counts one object of direction d.
func (r *Refs) add(d xfrm.Dir, n int) {
	if d == xfrm.Out {
		r.TX += n
	} else {
		r.RX += n
	}
}

// place is where a policy stands: at most one per selector and direction.
type place struct {
	Dir xfrm.Dir
	Sel xfrm.Selector
}

func placeOf(p *xfrm.Policy) place { return place{p.Dir, p.Sel} }

// view is Observed, indexed. The model of the invariants starts as a view too.
type view struct {
	sas      map[xfrm.SAID]*xfrm.SA
	policies map[place]*xfrm.Policy
	senders  map[lane]int // number of outbound SAs
	refs     map[int]Refs // ours, by PF
}

// lane is how a NIC finds an outbound SA: by reqid alone. The host's stack (PF 0)
// finds its own in the same way.
type lane struct {
	pf    int
	reqid uint32
}

// sends tells whether an allow policy has an SA to send to on its own device.
func (v *view) sends(p *xfrm.Policy) bool {
	return v.senders[lane{p.Offload.Ifindex, p.Tmpl.Reqid}] > 0
}

func newView(ob *Observed) *view {
	v := &view{
		sas:      make(map[xfrm.SAID]*xfrm.SA, len(ob.SAs)),
		policies: make(map[place]*xfrm.Policy, len(ob.Policies)),
		senders:  make(map[lane]int, len(ob.SAs)/2),
		refs:     map[int]Refs{},
	}
	for i := range ob.SAs {
		v.putSA(&ob.SAs[i])
	}
	for i := range ob.Policies {
		v.putPolicy(&ob.Policies[i])
	}
	return v
}

// change carries out one operation.
func (v *view) change(op xfrm.Op) {
	switch op.Kind {
	case xfrm.AddSA:
		v.putSA(op.SA)
	case xfrm.DeleteSA:
		v.dropSA(op.SA.ID())
	case xfrm.DeletePolicy:
		v.dropPolicy(placeOf(op.Policy))
	default:
		v.putPolicy(op.Policy)
	}
}

// users returns the pair whose outbound policy sends to an SA, by reqid.
func (v *view) users() map[uint32]Pair {
	m := make(map[uint32]Pair, len(v.policies))
	for _, p := range v.policies {
		use(m, p)
	}
	return m
}

// users returns the same of a list of policies.
func users(ps []xfrm.Policy) map[uint32]Pair {
	m := make(map[uint32]Pair, len(ps))
	for i := range ps {
		use(m, &ps[i])
	}
	return m
}

func use(m map[uint32]Pair, p *xfrm.Policy) {
	if pair, is := pairOf(p); is && p.Dir == xfrm.Out && p.Action == xfrm.Allow && p.Tmpl != nil {
		m[p.Tmpl.Reqid] = pair
	}
}

func (v *view) putSA(s *xfrm.SA) {
	v.sas[s.ID()] = s
	if s.Dir == xfrm.Out {
		v.senders[lane{s.Offload.Ifindex, s.Reqid}]++
	}
	v.count(s.Offload.Ifindex, s.Dir, 1)
}

func (v *view) dropSA(id xfrm.SAID) {
	s, is := v.sas[id]
	if !is {
		return
	}
	delete(v.sas, id)
	if s.Dir == xfrm.Out {
		v.senders[lane{s.Offload.Ifindex, s.Reqid}]--
	}
	v.count(s.Offload.Ifindex, s.Dir, -1)
}

func (v *view) putPolicy(p *xfrm.Policy) {
	v.dropPolicy(placeOf(p))
	v.policies[placeOf(p)] = p
	v.count(p.Offload.Ifindex, p.Dir, 1)
}

func (v *view) dropPolicy(at place) {
	if p, is := v.policies[at]; is {
		delete(v.policies, at)
		v.count(p.Offload.Ifindex, p.Dir, -1)
	}
}

func (v *view) count(pf int, d xfrm.Dir, n int) {
	if pf != 0 {
		r := v.refs[pf]
		r.add(d, n)
		v.refs[pf] = r
	}
}

// fate is what would become of a pair's outbound traffic.
type fate uint8

const (
	leaks     fate = iota // nothing stops or encrypts it, or the SA behind its policy is missing
	passes                // clear text by a bypass
	blocked               // stopped
	encrypted             // by an SA
)

// fateOf follows a NIC, by its ifindex: the pair's own policy first, then the
// guard; what stands elsewhere does not count. 0 follows the host's stack, which
// looks at all policies and drops packets whose SA is missing.
func (v *view) fateOf(p Pair, pf int) fate {
	own, is := v.policies[place{xfrm.Out, p.selector(xfrm.Out)}]
	if is && (pf == 0 || own.Offload.Ifindex == pf) {
		switch {
		case own.Action == xfrm.Block:
			return blocked
		case own.Tmpl == nil:
			return passes
		case v.sends(own):
			return encrypted
		case pf == 0:
			return blocked
		default:
			return leaks
		}
	}
	guard, is := v.policies[place{xfrm.Out, p.VTEP().selector(xfrm.Out)}]
	if is && guard.Action == xfrm.Block && (pf == 0 || guard.Offload.Ifindex == pf) {
		return blocked
	}
	return leaks
}

// guardStands tells whether a guard stands in the NIC that it is meant for.
func (v *view) guardStands(g GuardIntent, d xfrm.Dir) bool {
	p, is := v.policies[place{d, g.selector(d)}]
	return is && p.Action == xfrm.Block && p.Offload.Ifindex == g.PF
}
