// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// watcher looks over the daemon's shoulder: after each of its operations it
// sends a packet of every pair that asks for IPsec down every way there is. An
// operation that lets one out in clear text which was not let out before is a
// breach. What strangers do is not held against the daemon.
type watcher struct {
	r        *rig
	on       bool
	leaks    map[string]bool // by way, as of the last look
	breaches []string
	spent    bool // some pair was blocked because its key is spent
}

// watch puts a watcher on r.
func (r *rig) watch() {
	w := &watcher{r: r}
	r.w = w
	r.Faults.Hold(true)
	r.Changed = func(op xfrm.Op) {
		if w.on {
			w.judge(op.String())
		}
	}
}

// start notes what leaks before a round, by somebody else's doing.
func (w *watcher) start() {
	w.leaks, w.on = w.r.leaking(), true
	w.r.Faults.Hold(false)
}

// stop ends a round. What the daemon did to the database has had its effect.
func (w *watcher) stop() {
	w.on = false
	w.r.Faults.Hold(true)
	w.judge("the round")
	for _, p := range w.r.d.Last().Pairs {
		w.spent = w.spent || p.Problem != nil && p.Problem.Code == "KEY_USED"
	}
}

// judge compares with the last look.
func (w *watcher) judge(after string) {
	now := w.r.leaking()
	for way := range now {
		if !w.leaks[way] {
			w.breaches = append(w.breaches, fmt.Sprintf("%s: clear text after %q", way, after))
		}
	}
	w.leaks = now
}

// leaking returns the ways on which a pair that asks for IPsec sends clear text.
func (r *rig) leaking() map[string]bool {
	out := map[string]bool{}
	for _, p := range r.securePairs() {
		for way, f := range r.ways(p) {
			if f.Way == fakenic.Clear {
				out[p.String()+" "+way] = true
			}
		}
	}
	return out
}

// ways returns what becomes of a pair's packet: through the host's stack, and
// by each rule in hardware.
func (r *rig) ways(p plugin.Pair) map[string]fakenic.Fate {
	k := fakenic.Tunnel{Src: p.Local, Dst: p.Remote, Port: p.Port}
	fates := map[string]fakenic.Fate{"by the stack": r.SendHost(k)}
	for _, t := range r.Encaps() {
		if k.VNI = t.VNI; k == t {
			fates[fmt.Sprintf("by rule %d", t.VNI)] = r.SendVF(t)
		}
	}
	return fates
}

// securePairs returns the pairs of which a port asks for IPsec; plainPairs
// those of which none does.
func (r *rig) securePairs() []plugin.Pair {
	secure, _ := r.pairs()
	return secure
}

func (r *rig) pairs() (secure, clear []plugin.Pair) {
	asks := map[plugin.Pair]bool{}
	snap, _ := r.OVS.Current()
	for _, t := range snap.Tunnels {
		if k, can := r.OVS.Tunnel(t.Name); can {
			p := plugin.Pair{Local: k.Src, Remote: k.Dst, Port: k.Port}
			asks[p] = asks[p] || t.IPsec
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(asks), plugin.Pair.Compare) {
		if asks[p] {
			secure = append(secure, p)
		} else {
			clear = append(clear, p)
		}
	}
	return secure, clear
}

// twice returns the key sets whose outbound key was installed more than once.
func (r *rig) twice() (names []string) {
	for _, n := range r.Keys.Names() {
		for _, f := range r.Keys.OutPrints(n) {
			if r.Sent(f) > 1 {
				names = append(names, n)
			}
		}
	}
	return names
}

// dump returns all that stands in the kernel, sorted, without counters and
// orders, which depend on how it came about.
func (r *rig) dump() []string {
	sas, _ := r.SAs(context.Background())
	policies, _ := r.Policies(context.Background())
	var lines []string
	for i := range sas {
		lines = append(lines, xfrm.Op{Kind: xfrm.AddSA, SA: &sas[i]}.IP(r.Name))
	}
	for i := range policies {
		lines = append(lines, xfrm.Op{Kind: xfrm.AddPolicy, Policy: &policies[i]}.IP(r.Name))
	}
	slices.SortFunc(lines, cmp.Compare[string])
	return lines
}
