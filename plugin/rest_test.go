// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/ike"
)

// phases is an IKE daemon that has a connection in each of some phases.
type phases []string

func (phases) Want([]ike.Conn) {}
func (phases) Renew(string)    {}
func (phases) Rekey(string)    {}

func (p phases) State() ike.State {
	s := ike.State{Conns: map[string]ike.ConnState{}}
	for i, phase := range p {
		c := ike.ConnState{Phase: phase}
		switch phase {
		case again:
			c = ike.ConnState{Phase: ike.Connecting, Problem: &ike.Problem{Code: "IKE_NO_ANSWER"}}
		case upAgain:
			c = ike.ConnState{Phase: ike.Up, Problem: &ike.Problem{Code: "IKE_NO_ESN"}}
		case down:
			s.Problem = &ike.Problem{Code: ike.CodeDown}
			continue
		}
		s.Conns[fmt.Sprint(i)] = c
	}
	return s
}

// The phases of a connection that is tried again, and of one that is up with a problem;
// down is a daemon that does not answer.
const again, upAgain, down = "again", "up again", "down"

func TestRest(t *testing.T) {
	const l, w, c, u, f = ike.Loading, ike.Waiting, ike.Connecting, ike.Up, ike.Failed
	for _, tt := range []struct {
		name               string
		ike                plugin.IKE
		round, again, want time.Duration
	}{
		{"no IKE", nil, 100 * time.Millisecond, time.Minute, 0},
		{"few are being keyed", phases{l, w, c, c, u, u, u, u}, 100 * time.Millisecond, time.Minute, 0},
		{"many are", phases{l, w, c, c, c, u, f}, 100 * time.Millisecond, time.Minute, 2 * time.Second},
		{"many are, most in vain", phases{l, w, c, c, again, again, f}, 100 * time.Millisecond, time.Minute, 300 * time.Millisecond},
		{"many are up, with problems", phases{upAgain, upAgain, upAgain, upAgain, upAgain}, 100 * time.Millisecond, time.Minute, 0},
		{"charon is down", phases{l, l, l, l, l, down}, 100 * time.Millisecond, time.Minute, 0},
		{"a long round", phases{l, w, c, c, c}, time.Minute, time.Minute, 10 * time.Second},
		{"the next is due", phases{l, w, c, c, c}, time.Minute, time.Second, time.Second},
		{"the next is due at once", phases{l, w, c, c, c}, time.Minute, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := plugin.New(plugin.Config{IKE: tt.ike, Now: time.Now, Database: &tables{}})
				began := time.Now()
				d.Rest(t.Context(), tt.round, tt.again)
				if got := time.Since(began); got != tt.want {
					t.Errorf("rested for %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// There is no rest while a round is to end something.
func TestNoRest(t *testing.T) {
	for name, left := range map[string]func(*plugin.Daemon){
		"a step of host scope failed": func(d *plugin.Daemon) { d.Failed(errors.New("device busy")) },
		"flows are held back":         func(d *plugin.Daemon) { d.Saw(ovsdb.Snapshot{}, plugin.WhyStrict) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := plugin.New(plugin.Config{IKE: manyAtOnce, Now: time.Now, Database: &tables{}, Log: slog.New(slog.DiscardHandler)})
				left(d)
				began := time.Now()
				d.Rest(t.Context(), time.Second, time.Minute)
				if got := time.Since(began); got != 0 {
					t.Errorf("rested for %v", got)
				}
			})
		})
	}
}

// manyAtOnce is an IKE daemon that is at so many that there is a rest.
var manyAtOnce = phases{ike.Connecting, ike.Connecting, ike.Connecting, ike.Connecting, ike.Connecting}

// tables is a database of tunnels.
type tables struct {
	plugin.Database
	changed chan struct{}
	tunnels []ovsdb.Tunnel
}

func (d *tables) Changed() <-chan struct{} { return d.changed }
func (d *tables) Current() (ovsdb.Snapshot, ovsdb.State) {
	return ovsdb.Snapshot{Tunnels: d.tunnels}, ovsdb.State{Known: true}
}

// A tunnel ends a rest only if its VTEP may have no guard yet, or a bypass for it, and a
// plain one if there is no bypass for its peer.
func TestTunnelEndsRest(t *testing.T) {
	a, b, c, plain := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")
	secure := func(local, remote netip.Addr, port uint16) ovsdb.Tunnel {
		return ovsdb.Tunnel{Name: "new", Local: local, Remote: remote, DstPort: port, IPsec: true}
	}
	old := []ovsdb.Tunnel{
		secure(a, b, 4789), secure(netip.Addr{}, b, 4790),
		{Name: "plain", Local: a, Remote: plain, DstPort: 4789},
		{Name: "plain2", Local: a, Remote: plain, DstPort: 4791},
		{Name: "flow", Local: a, DstPort: 4792}, secure(a, b, 4792),
	}
	other := secure(a, c, 4789)
	other.Dev = "pf1"
	for _, tt := range []struct {
		name string
		more ovsdb.Tunnel
		want time.Duration
	}{
		{"another peer", secure(a, c, 4789), 10 * time.Second},
		{"another UDP port", secure(a, b, 4793), time.Second},
		{"another address", secure(c, b, 4789), time.Second},
		{"another NIC", other, time.Second},
		{"no local_ip, another peer", secure(netip.Addr{}, c, 4790), 10 * time.Second},
		{"no local_ip, another port", secure(netip.Addr{}, b, 4789), time.Second},
		{"one that was seen", secure(a, b, 4792), 10 * time.Second},
		{"a plain one", ovsdb.Tunnel{Name: "t3", Local: c, Remote: b, DstPort: 4789}, time.Second},
		{"another plain one of a pair", ovsdb.Tunnel{Name: "t3", Local: a, Remote: plain, DstPort: 4789}, 10 * time.Second},
		{"a plain one from another address", ovsdb.Tunnel{Name: "t3", Local: c, Remote: plain, DstPort: 4789}, time.Second},
		{"a plain one beside an encrypted one", ovsdb.Tunnel{Name: "t3", Local: a, Remote: b, DstPort: 4789}, 10 * time.Second},
		{"a plain one without a guard", ovsdb.Tunnel{Name: "t3", Local: a, Remote: b, DstPort: 4794}, 10 * time.Second},
		{"a plain one by flows", ovsdb.Tunnel{Name: "t3", Local: a, DstPort: 4789, ByFlow: true}, 10 * time.Second},
		{"the peer of a plain one", secure(a, plain, 4789), time.Second},
		{"where only plain ones were", secure(a, c, 4791), time.Second},
		{"beside a plain one by flows", secure(a, c, 4792), time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen := slices.DeleteFunc(slices.Clone(old), func(o ovsdb.Tunnel) bool { return o.DstPort == 4792 && tt.more.DstPort != 4792 })
				db := &tables{changed: make(chan struct{}, 1), tunnels: seen}
				d := plugin.New(plugin.Config{IKE: manyAtOnce, Now: time.Now, Database: db})
				d.Saw(ovsdb.Snapshot{Tunnels: seen}, "")
				began := time.Now()
				go func() {
					time.Sleep(time.Second)
					db.tunnels = append(slices.Clone(seen), tt.more)
					db.changed <- struct{}{}
				}()
				d.Rest(t.Context(), time.Minute, time.Minute)
				if got := time.Since(began); got != tt.want {
					t.Errorf("rested for %v, want %v", got, tt.want)
				}
				if !d.Asked() {
					t.Error("no round is asked for")
				}
				began = time.Now()
				d.Gather(t.Context(), time.Minute)
				if tt.want == time.Second && time.Since(began) != 0 {
					t.Errorf("the round waits %v more", time.Since(began))
				}
			})
		})
	}
}

func TestAlarmEndsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := plugin.New(plugin.Config{IKE: manyAtOnce, Now: time.Now, Database: &tables{}})
		began := time.Now()
		time.AfterFunc(10*time.Millisecond, d.Poke)
		time.AfterFunc(20*time.Millisecond, d.Alarm)
		d.Rest(t.Context(), time.Second, time.Minute)
		if got := time.Since(began); got != 20*time.Millisecond {
			t.Errorf("rested for %v", got)
		}
	})
}

func TestGather(t *testing.T) {
	for _, tt := range []struct {
		name        string
		round, want time.Duration
		ask         func(*plugin.Daemon)
	}{
		{"a short round", 20 * time.Millisecond, 5 * time.Millisecond, (*plugin.Daemon).Poke},
		{"a long round", time.Minute, 250 * time.Millisecond, (*plugin.Daemon).Poke},
		{"an alarm", time.Minute, 0, (*plugin.Daemon).Alarm},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := plugin.New(plugin.Config{Now: time.Now})
				tt.ask(d)
				began := time.Now()
				d.Gather(t.Context(), tt.round)
				if got := time.Since(began); got != tt.want {
					t.Errorf("waited for %v, want %v", got, tt.want)
				}
				if d.Asked() {
					t.Error("another round is asked for")
				}
			})
		})
	}
}

// An alarm that ends a rest is not held up afterwards.
func TestAlarmInRestIsNotGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := plugin.New(plugin.Config{IKE: manyAtOnce, Now: time.Now, Database: &tables{}})
		began := time.Now()
		time.AfterFunc(20*time.Millisecond, d.Alarm)
		d.Rest(t.Context(), time.Second, time.Minute)
		if !d.Asked() {
			t.Fatal("no round is asked for")
		}
		d.Gather(t.Context(), time.Second)
		if got := time.Since(began); got != 20*time.Millisecond {
			t.Errorf("the round begins %v after the alarm", got-20*time.Millisecond)
		}
	})
}
