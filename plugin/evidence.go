// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/tc"
	"ovs-ipsec-offload/xfrm"
)

// explain puts the cause of a refusal before the bare error, for each pair that
// failed and for the host. Each NIC is looked at once. The evidence is of the moment after the plan, but for the
// inbound SAs, which are counted as they stood when the last one was added.
func (d *Daemon) explain(ctx context.Context, out *Outcome) {
	seen := map[int]*Evidence{}
	cause := func(op xfrm.Op, err error) error {
		if err == nil || xfrm.CodeOf(err) != xfrm.CodeBusy || deviceOf(op) == 0 {
			return err
		}
		pf := deviceOf(op)
		if seen[pf] == nil {
			ev, lost := d.evidence(ctx, pf)
			if lost != nil {
				d.tell("evidence", lost.Error())
			}
			ev.Inbound += out.Retired[pf]
			seen[pf] = &ev
		}
		d.askStrict(ctx, op, pf, seen[pf])
		if p := Cause(op, err, *seen[pf]); p != nil {
			return &explained{p, err}
		}
		return err
	}
	for p, err := range out.Failed {
		out.Failed[p] = cause(out.Refused[p], err)
	}
	out.Host = cause(out.Refused[Pair{}], out.Host)
	d.learn(out, seen)
}

// learn remembers what the refusals tell of a card. A pair that only waits for
// room is admitted when there is some, and not tried before.
func (d *Daemon) learn(out *Outcome, seen map[int]*Evidence) {
	d.mu.Lock()
	defer d.mu.Unlock()
	full := map[int]bool{}
	for p, err := range out.Failed {
		pf := deviceOf(out.Refused[p])
		if problemOf(err).Code != codeLimit {
			continue
		}
		if _, done := full[pf]; !done {
			c := d.cards[cardName{seen[pf].Handle, pf}]
			full[pf] = c != nil && c.limit.learn(seen[pf].Inbound, d.cfg.Now())
		}
		if full[pf] {
			out.NoRoom = append(out.NoRoom, p)
		}
	}
}

// evidence looks at a NIC that refused something.
func (d *Daemon) evidence(ctx context.Context, ifindex int) (Evidence, error) {
	facts, err := d.cfg.NIC.Facts(ctx)
	if err != nil {
		return Evidence{}, fmt.Errorf("read NIC facts: %w", err)
	}
	i := slices.IndexFunc(facts.PFs, func(p devlink.PF) bool { return p.Ifindex == ifindex })
	if i < 0 {
		return Evidence{}, fmt.Errorf("look why interface %d refuses IPsec: it is gone", ifindex)
	}
	pf := &facts.PFs[i]
	d.mu.Lock()
	known := d.cardOf(pf).known(d.cfg.Now())
	d.mu.Unlock()
	ev := Evidence{PF: pf.Name, Handle: pf.Handle, Mode: pf.EswitchMode, VFs: pf.VFIPsec, Strict: known}
	rep, err := d.cfg.Flows.Offloaded(ctx, facts.RuleDevs(*pf))
	if err == nil {
		ev.Flows, ev.OnPF, ev.Holder = rep.Total, rep.ByDev[ifindex], holder(rep, facts)
	}
	return ev, errors.Join(err, d.inventory(ctx, ifindex, &ev))
}

// inventory counts what holds a NIC's tables, whoever it is of.
func (d *Daemon) inventory(ctx context.Context, ifindex int, ev *Evidence) error {
	sas, err := d.cfg.Kernel.SAs(ctx)
	if err != nil {
		return fmt.Errorf("read SAs: %w", err)
	}
	policies, err := d.cfg.Kernel.Policies(ctx)
	if err != nil {
		return fmt.Errorf("read policies: %w", err)
	}
	for i := range sas {
		if sas[i].Offload.Ifindex == ifindex {
			ev.Held.add(sas[i].Dir, 1)
			if sas[i].Dir == xfrm.In {
				ev.Inbound++
			}
		}
	}
	for i := range policies {
		if policies[i].Offload.Ifindex == ifindex {
			ev.Held.add(policies[i].Dir, 1)
		}
	}
	return nil
}

// holder names the device with most rules in hardware.
func holder(rep tc.Report, facts devlink.Facts) string {
	dev, most := 0, 0
	for i, n := range rep.ByDev {
		if n > most || n == most && i < dev {
			dev, most = i, n
		}
	}
	for i := range facts.PFs {
		pf := &facts.PFs[i]
		for _, l := range append([]devlink.Link{pf.Link}, pf.Representors...) {
			if l.Ifindex == dev {
				return l.Name
			}
		}
	}
	if slices.Contains(facts.TunnelDevs, dev) {
		return "the tunnel device"
	}
	return fmt.Sprintf("interface %d", dev)
}

// askStrict finds out whether the NIC is strict: an SA was refused while flows are
// in hardware and the table stands. An outbound SA needs no id, so one that is of no
// use to anybody is added, and deleted if the NIC takes it. Versions do not tell:
// distributions carry the change back. That it was not strict once is no answer
// when it refuses an outbound SA, for which flows are the only reason.
func (d *Daemon) askStrict(ctx context.Context, op xfrm.Op, ifindex int, ev *Evidence) {
	dir, isSA := dirOf(op)
	if !isSA {
		return
	}
	if dir == xfrm.Out && ev.Strict == StrictNo && !ev.asked {
		ev.Strict = StrictUnknown
	}
	d.findStrict(ctx, ifindex, ev)
}

// findStrict asks the NIC, if it is not known and nothing else could be the cause.
func (d *Daemon) findStrict(ctx context.Context, ifindex int, ev *Evidence) {
	if ev.asked || ev.Strict != StrictUnknown || ev.Flows == 0 || ev.Held.RX == 0 || ev.Held.TX == 0 || len(ev.VFs) > 0 || ev.OnPF > 0 {
		return
	}
	ev.asked = true
	err := d.probe(ctx, ifindex, xfrm.Out)
	switch {
	case err == nil:
		// Only if flows are there still: the last one may have gone before it was asked.
		if again, lost := d.evidence(ctx, ifindex); lost != nil || again.Flows == 0 {
			return
		}
		ev.Strict = StrictNo
	case xfrm.CodeOf(err) == xfrm.CodeBusy:
		ev.Strict = StrictYes
	default:
		d.tell("probe", err.Error())
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.cards[cardName{ev.Handle, ifindex}]; c != nil {
		c.strict, c.asked = ev.Strict, d.cfg.Now()
	}
}

// probe adds and deletes an SA that is of no use to anybody, and returns why the NIC
// does not take it.
func (d *Daemon) probe(ctx context.Context, ifindex int, dir xfrm.Dir) error {
	_, err := d.probes(ctx, ifindex, dir, 1)
	return err
}

// fits returns how many of n more inbound SAs a NIC takes.
func (d *Daemon) fits(ctx context.Context, ifindex, n int) int {
	taken, _ := d.probes(ctx, ifindex, xfrm.In, n)
	return taken
}

// probes adds and deletes n SAs between two addresses that are nobody's
// (see anchorEnds), with keys that are thrown away. Should one be left behind, it is
// known for ours and retired. It returns how many the NIC took, and why not the others.
func (d *Daemon) probes(ctx context.Context, ifindex int, dir xfrm.Dir, n int) (taken int, err error) {
	adds := make([]xfrm.Op, n)
	for i := range adds {
		sa, err := d.trialSA(ifindex, dir, probeSPI+uint32(i))
		if err != nil {
			return 0, err
		}
		adds[i] = xfrm.Op{Kind: xfrm.AddSA, SA: sa}
	}
	kernel, steady := newRetrying(d.cfg), context.WithoutCancel(ctx)
	var dels []xfrm.Op
	for i, refused := range kernel.Do(steady, adds) {
		if adds[i].SA.Key.Wipe(); refused == nil {
			dels = append(dels, xfrm.Op{Kind: xfrm.DeleteSA, SA: adds[i].SA})
		}
		err = cmp.Or(err, refused)
	}
	return len(dels), cmp.Or(err, errors.Join(kernel.Do(steady, dels)...))
}

// trialSA returns an SA of that kind.
func (d *Daemon) trialSA(ifindex int, dir xfrm.Dir, spi uint32) (*xfrm.SA, error) {
	src, dst := anchorEnds()
	sa := &xfrm.SA{Src: src, Dst: dst, SPI: spi, Dir: dir, ESN: true, Offload: xfrm.Offload{Ifindex: ifindex, Packet: true}}
	if dir == xfrm.In {
		sa.Src, sa.Dst, sa.Window = dst, src, 256
	}
	sa.Reqid = reqidOf(sa.ID(), sa.Src, 0)
	b := make([]byte, xfrm.KeyLen)
	if _, err := io.ReadFull(cmp.Or[io.Reader](d.cfg.Rand, rand.Reader), b); err != nil {
		return nil, fmt.Errorf("draw a key: %w", err)
	}
	sa.Key, _ = xfrm.NewKey(b)
	return sa, nil
}

// probeSPI is the first SPI of SAs that only try a NIC.
const probeSPI = 0x6f760001
