// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
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
		if phase == again {
			c = ike.ConnState{Phase: ike.Connecting, Problem: &ike.Problem{Code: "IKE_NO_ANSWER"}}
		}
		s.Conns[fmt.Sprint(i)] = c
	}
	return s
}

// again is the phase of a connection that is tried again.
const again = "again"

func TestRest(t *testing.T) {
	const l, w, c, u, f = ike.Loading, ike.Waiting, ike.Connecting, ike.Up, ike.Failed
	for _, tt := range []struct {
		name        string
		ike         plugin.IKE
		round, want time.Duration
	}{
		{"no IKE", nil, 100 * time.Millisecond, 0},
		{"few are being keyed", phases{l, w, c, c, u, u, f, f}, 100 * time.Millisecond, 0},
		{"many are, most in vain", phases{l, w, c, c, again, again, again}, 100 * time.Millisecond, 0},
		{"many are", phases{l, w, c, c, c, u, f}, 100 * time.Millisecond, 2 * time.Second},
		{"a long round", phases{l, w, c, c, c}, time.Minute, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := plugin.New(plugin.Config{IKE: tt.ike, Now: time.Now, Database: &tables{}})
				began := time.Now()
				d.Rest(t.Context(), tt.round)
				if got := time.Since(began); got != tt.want {
					t.Errorf("rested for %v, want %v", got, tt.want)
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

// A tunnel ends a rest only if its VTEP may have no guard yet.
func TestTunnelEndsRest(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	old := []ovsdb.Tunnel{{Name: "t1", Local: a, Remote: b, DstPort: 4789}, {Name: "t2", Remote: b, DstPort: 4789}}
	for _, tt := range []struct {
		name string
		more ovsdb.Tunnel
		want time.Duration
	}{
		{"another peer", ovsdb.Tunnel{Name: "t3", Local: a, Remote: c, DstPort: 4789}, 10 * time.Second},
		{"another UDP port", ovsdb.Tunnel{Name: "t3", Local: a, Remote: b, DstPort: 4790}, time.Second},
		{"another address", ovsdb.Tunnel{Name: "t3", Local: c, Remote: b, DstPort: 4789}, time.Second},
		{"the first that asks for IPsec", ovsdb.Tunnel{Name: "t3", Local: a, Remote: c, DstPort: 4789, IPsec: true}, time.Second},
		{"another NIC", ovsdb.Tunnel{Name: "t3", Local: a, Remote: c, DstPort: 4789, Dev: "pf1"}, time.Second},
		{"no local_ip, a known peer", ovsdb.Tunnel{Name: "t3", Remote: b, DstPort: 4789}, 10 * time.Second},
		{"no local_ip, another peer", ovsdb.Tunnel{Name: "t3", Remote: c, DstPort: 4789}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := &tables{changed: make(chan struct{}, 1), tunnels: old}
				d := plugin.New(plugin.Config{IKE: manyAtOnce, Now: time.Now, Database: db})
				d.Saw(ovsdb.Snapshot{Tunnels: old})
				began := time.Now()
				go func() {
					time.Sleep(time.Second)
					db.tunnels = append(slices.Clone(old), tt.more)
					db.changed <- struct{}{}
				}()
				d.Rest(t.Context(), time.Minute)
				if got := time.Since(began); got != tt.want {
					t.Errorf("rested for %v, want %v", got, tt.want)
				}
				if !d.Asked() {
					t.Error("no round is asked for")
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
		d.Rest(t.Context(), time.Second)
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
		d.Rest(t.Context(), time.Second)
		if !d.Asked() {
			t.Fatal("no round is asked for")
		}
		d.Gather(t.Context(), time.Second)
		if got := time.Since(began); got != 20*time.Millisecond {
			t.Errorf("the round begins %v after the alarm", got-20*time.Millisecond)
		}
	})
}
