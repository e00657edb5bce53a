// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"ovs-ipsec-offload/lab/fakehost"
	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
)

// rig is a hypervisor with a daemon on it.
type rig struct {
	*fakehost.Host
	cfg plugin.Config
	d   *plugin.Daemon
	w   *watcher // nil: nobody watches

	peers  map[string]bool      // ports whose peer sends a packet before each round, by the set that they name
	probed func(f fakenic.Fate) // takes what the daemon's probes come to; may be nil
}

// newRig returns a hypervisor without NICs and a daemon that has not looked yet.
func newRig() *rig {
	h := fakehost.New()
	r := &rig{Host: h, cfg: h.Config()}
	r.cfg.Saved, r.cfg.Prober, r.peers = &shelf{}, prober{r}, map[string]bool{}
	r.restart()
	return r
}

// standardRig has one PF, pf0, with 10.0.0.1/24 and fd00::1/64.
func standardRig() *rig {
	r := newRig()
	r.AddPF("pf0", 4)
	r.AddAddr(netip.MustParsePrefix("10.0.0.1/24"), 4)
	r.AddAddr(netip.MustParsePrefix("fd00::1/64"), 4)
	return r
}

// restart puts a new daemon in the place of the old one, which forgets all.
func (r *rig) restart() { r.d = plugin.New(r.cfg) }

// roundsMax is how many rounds in a row may change something: the first does
// the work, and what an SA leaves behind may take another.
const roundsMax = 12

// settle makes rounds until one has nothing left to do at once.
func (r *rig) settle() error {
	for range roundsMax {
		if r.round() > 0 {
			return nil
		}
	}
	return fmt.Errorf("still at work after %d rounds", roundsMax)
}

// round makes one round, under the eyes of the watcher if there is one. After a
// crash a new daemon starts at once.
func (r *rig) round() (again time.Duration) {
	defer func() {
		switch c := recover().(type) {
		case nil:
		case fakenic.Crash:
			r.restart()
		default:
			panic(c)
		}
	}()
	for name := range r.peers {
		_ = cmdReceive(r, []string{name, "esp"}, io.Discard) // nothing comes of it where the port cannot receive
	}
	if r.w != nil {
		r.w.start()
		defer r.w.stop()
	}
	return r.d.Round(context.Background())
}

// prober sends probes by the host's stack. Clear text is a breach.
type prober struct{ r *rig }

// Probe implements plugin.Prober.
func (p prober) Probe(_ context.Context, pair plugin.Pair) error {
	f := p.r.SendFrame(fakenic.Frame{Src: pair.Local, Dst: pair.Remote, SrcPort: plugin.ProbePort, DstPort: pair.Port})
	if f.Way == fakenic.Clear && p.r.w != nil {
		p.r.w.breaches = append(p.r.w.breaches, fmt.Sprintf("a probe of %s in clear text", pair))
	}
	if p.r.probed != nil {
		p.r.probed(f)
	}
	return nil
}

// statusText returns what the last round left, in words.
func (r *rig) statusText() string {
	var b strings.Builder
	printStatus(&b, r.d.Last())
	return b.String()
}

// plain returns a VXLAN port without ipsec options.
func plain(name, local, remote string) ovsdb.Tunnel {
	t := ovsdb.Tunnel{Name: name, Type: "vxlan", DstPort: 4789, Remote: netip.MustParseAddr(remote)}
	if local != "" {
		t.Local = netip.MustParseAddr(local)
	}
	return t
}

// secure returns a VXLAN port that names a key set.
func secure(name, local, remote, keys string) ovsdb.Tunnel {
	t := plain(name, local, remote)
	t.IPsec, t.Mode, t.Keys = true, ovsdb.Transport, keys
	return t
}
