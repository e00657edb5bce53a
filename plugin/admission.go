// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"slices"

	"ovs-ipsec-offload/xfrm"
)

// room is what a NIC has for inbound SAs.
type room struct {
	PF    string // name, for the operator
	Most  int    // inbound SAs that the card takes
	Stand int    // that stand now, ours and others'
	// Presumed tells that Most is what such cards have, and that this one has not
	// refused any yet. It holds for pairs that IKE keys: an IKE daemon that meets the
	// end of a card hangs, while a refused pair of ours just waits.
	Presumed bool
}

// mlx5Inbound is how many inbound SAs mlx5 has ids for in switchdev mode
// (ESW_IPSEC_RX_MAPPED_ID_MASK in esw/ipsec_fs.c).
const mlx5Inbound = 2047

// rekeyShare is the part of a NIC's room, one in so many, that new pairs leave
// free: a change of keys needs the old and the new inbound SA at once.
const rekeyShare = 64

// admit gives the room of NICs that are known to have an end of it to the pairs
// that want it, and returns the intent that is left and the pairs that stay as
// they are for want of room. NICs without an entry in rooms are left alone.
//
// The order is: pairs whose inbound SA stands need no more room and keep it;
// then pairs that have other SAs, which change their keys or lost one; then the
// rest, by local address, remote address and port. A pair is never turned out
// for another one.
func admit(in Intent, sas []xfrm.SA, rooms map[int]room) (Intent, []Pair) {
	if !slices.ContainsFunc(in.Pairs, func(pi PairIntent) bool { return bounded(&pi, rooms) }) {
		return in, nil
	}
	a := admission{rooms: rooms, wants: map[int]int{}, planned: map[int]int{}, stands: make(map[xfrm.SAID]bool, len(sas)), between: make(map[ends]bool, 2*len(in.Pairs))}
	for i := range sas {
		a.stands[sas[i].ID()] = true
		a.between[ends{sas[i].Src, sas[i].Dst}], a.between[ends{sas[i].Dst, sas[i].Src}] = true, true
	}
	in.Pairs = slices.Clone(in.Pairs)
	var changing, fresh []*PairIntent
	for i := range in.Pairs {
		pi := &in.Pairs[i]
		if !bounded(pi, rooms) {
			continue
		}
		a.wants[pi.PF]++
		between := a.between[ends{pi.Local, pi.Remote}]
		switch rx, _ := pi.ids(); {
		case pi.Want == Negotiate && between || a.stands[rx]:
		case between:
			changing = append(changing, pi)
		default:
			fresh = append(fresh, pi)
		}
	}
	waiting := a.change(changing)
	a.enter(fresh)
	return in, waiting
}

// bounded tells whether a pair has to be given room.
func bounded(pi *PairIntent, rooms map[int]room) bool {
	r, tight := rooms[pi.PF]
	return tight && (pi.Want == Negotiate || pi.Want == Encrypt && !r.Presumed)
}

// inbound returns how many inbound SAs a pair has.
func (pi *PairIntent) inbound() int {
	if pi.IKE == nil {
		return 1
	}
	return len(pi.IKE.Children())
}

type admission struct {
	rooms   map[int]room
	wants   map[int]int // pairs, by PF
	planned map[int]int // SAs that will be added, by PF
	stands  map[xfrm.SAID]bool
	between map[ends]bool
}

// take takes room for n SAs and leaves spare; it tells whether there was enough.
func (a *admission) take(pf, n, spare int) bool {
	if a.rooms[pf].Stand+a.planned[pf]+n+spare > a.rooms[pf].Most {
		return false
	}
	a.planned[pf] += n
	return true
}

// change admits pairs that have SAs and need one more. Without room they keep
// what they have.
func (a *admission) change(pis []*PairIntent) (wait []Pair) {
	for _, pi := range pis {
		if a.take(pi.PF, 1, 0) {
			continue
		}
		r := a.rooms[pi.PF]
		pi.Problem = problem(codeLimit, "%s takes %d inbound SAs and %d stand: the new keys of this pair wait until one goes, and what stands of it stays in use; "+
			"remove a tunnel of %s, or remove this one and add it again, which interrupts it", r.PF, r.Most, r.Stand, r.PF)
		wait = append(wait, pi.Pair)
	}
	return wait
}

// enter admits pairs that have nothing yet. Without room they stay blocked. One that
// IKE keys leaves room for a rekey of each of its children.
func (a *admission) enter(pis []*PairIntent) {
	for _, pi := range pis {
		r := a.rooms[pi.PF]
		spare := r.Most / rekeyShare
		if pi.Want == Negotiate {
			spare = max(spare, pi.inbound())
		}
		if a.take(pi.PF, pi.inbound(), spare) {
			continue
		}
		pi.Want = Blocked
		pi.Problem = problem(codeLimit, "%s takes %d inbound SAs, and %d pairs want one: those that stand stay, and others come in the order of their addresses "+
			"when one goes; have fewer peers on %s, or spread them over more NICs", r.PF, r.Most, a.wants[pi.PF], r.PF)
	}
}

// rooms returns what room the NICs of a scene have: what they have shown, or what is
// presumed of mlx5. It notes what stands.
func (d *Daemon) rooms(s *scene) map[int]room {
	d.mu.Lock()
	defer d.mu.Unlock()
	rooms := map[int]room{}
	for i := range s.facts.PFs {
		pf, n := &s.facts.PFs[i], s.observed.Inbound[s.facts.PFs[i].Ifindex]
		c := d.cardOf(pf)
		if !s.peeked {
			c.limit.saw(n)
		}
		if most, known := c.limit.room(); known {
			rooms[pf.Ifindex] = room{PF: pf.Name, Most: most, Stand: n}
		} else if pf.Driver == "mlx5_core" {
			rooms[pf.Ifindex] = room{PF: pf.Name, Most: mlx5Inbound, Stand: n, Presumed: true}
		}
	}
	return rooms
}

// tryRoom tries, when it is time, whether cards that are full take more inbound SAs
// than they refused: a limit may have been learned by mistake. It tries with SAs that
// are of no use to anybody, so that no pair and no IKE daemon meets the refusal, and
// tells whether a card has shown that it does.
func (d *Daemon) tryRoom(ctx context.Context, s *scene) (more bool) {
	if s.intent.Parked {
		return false
	}
	for i := range s.facts.PFs {
		pf := &s.facts.PFs[i]
		d.mu.Lock()
		l := &d.cardOf(pf).limit
		stand, refused := s.observed.Inbound[pf.Ifindex], l.refused
		due := refused > 0 && !d.cfg.Now().Before(l.again)
		d.mu.Unlock()
		if !due || !s.intent.waitsForRoom(pf.Ifindex) {
			continue
		}
		fit := d.fits(ctx, pf.Ifindex, min(max(refused+1-stand, 1), mostTrials))
		d.mu.Lock()
		if l.saw(stand + fit); l.refused > 0 {
			l.put(d.cfg.Now())
		} else {
			more = true
		}
		d.mu.Unlock()
	}
	return more
}

// waitsForRoom tells whether a pair of a PF stays as it is for want of room.
func (in *Intent) waitsForRoom(pf int) bool {
	return slices.ContainsFunc(in.Pairs, func(pi PairIntent) bool {
		return pi.PF == pf && pi.Problem != nil && pi.Problem.Code == codeLimit
	})
}

// mostTrials is how many SAs are tried at once; with as many as a rekey's share more
// free than that nobody waits.
const mostTrials = mlx5Inbound/rekeyShare + 2
