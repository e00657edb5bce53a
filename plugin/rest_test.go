// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

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
		s.Conns[fmt.Sprint(i)] = ike.ConnState{Phase: phase}
	}
	return s
}

func TestRest(t *testing.T) {
	const l, w, c, u, f = ike.Loading, ike.Waiting, ike.Connecting, ike.Up, ike.Failed
	for _, tt := range []struct {
		name        string
		ike         plugin.IKE
		round, want time.Duration
	}{
		{"no IKE", nil, 100 * time.Millisecond, 0},
		{"few are being keyed", phases{l, w, c, c, u, u, f, f}, 100 * time.Millisecond, 0},
		{"many are", phases{l, w, c, c, c, u, f}, 100 * time.Millisecond, 700 * time.Millisecond},
		{"a long round", phases{l, w, c, c, c}, time.Minute, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := plugin.New(plugin.Config{IKE: tt.ike, Now: time.Now})
				began := time.Now()
				d.Rest(t.Context(), tt.round)
				if got := time.Since(began); got != tt.want {
					t.Errorf("rested for %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestAlarmEndsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := plugin.New(plugin.Config{IKE: phases{ike.Connecting, ike.Connecting, ike.Connecting, ike.Connecting, ike.Connecting}, Now: time.Now})
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
		d := plugin.New(plugin.Config{IKE: phases{ike.Connecting, ike.Connecting, ike.Connecting, ike.Connecting, ike.Connecting}, Now: time.Now})
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
