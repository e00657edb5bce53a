// SPDX-License-Identifier: Apache-2.0

package fakehost

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/ovsdb"
)

// OVS is Open vSwitch: its database, and ovs-vswitchd, which turns ports into
// flow rules.
type OVS struct {
	host *fakenic.Host
	// Linger leaves the rules of a port that is gone, or of all while a hold
	// stands, in hardware until Settle, as revalidators do.
	Linger bool
	// Slow makes ovs-vswitchd take changes of other_config at Settle only.
	Slow bool
	// Sticky keeps flows that were in the kernel's datapath before hw-offload
	// was set there until Purge. Otherwise they run out at that very moment.
	Sticky bool

	mu      sync.Mutex
	systems []string
	tunnels map[string]ovsdb.Tunnel
	row     ovsdb.Host
	state   ovsdb.State
	runs    bool
	took    taken
	rules   map[string][]fakenic.FlowID // by port
	kernel  map[string]bool             // ports whose flows are in the kernel's datapath only
	leaving []fakenic.FlowID
	devs    map[uint16]int // UDP port to tunnel device
	writes  []ovsdb.Report
	changed chan struct{}
}

func newOVS(h *fakenic.Host) *OVS {
	return &OVS{host: h, tunnels: map[string]ovsdb.Tunnel{}, rules: map[string][]fakenic.FlowID{}, kernel: map[string]bool{}, devs: map[uint16]int{},
		row:   ovsdb.Host{UUID: "00000000-0000-0000-0000-000000000001", SystemID: "hv1", Hostname: "hv1.example", OVSVersion: "3.5.0"},
		state: ovsdb.State{Known: true, Connected: true}, runs: true, changed: make(chan struct{}, 1)}
}

// Current implements plugin.Database.
func (o *OVS) Current() (ovsdb.Snapshot, ovsdb.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := ovsdb.Snapshot{Host: o.row, Systems: slices.Clone(o.systems)}
	s.Host.Reported = maps.Clone(o.row.Reported)
	if h := o.row.Hold; h != nil {
		c := *h
		c.Fenced = maps.Clone(h.Fenced)
		s.Host.Hold = &c
	}
	for _, n := range slices.Sorted(maps.Keys(o.tunnels)) {
		t := o.tunnels[n]
		t.Reported, t.Problems = maps.Clone(t.Reported), slices.Clone(t.Problems)
		s.Tunnels = append(s.Tunnels, t)
	}
	return s, o.state
}

// SetSystems names the host's devices that are ports.
func (o *OVS) SetSystems(names ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	slices.Sort(names)
	o.systems = names
	o.wake()
}

// Changed implements plugin.Database.
func (o *OVS) Changed() <-chan struct{} { return o.changed }

func (o *OVS) wake() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// Report implements plugin.Database. It wakes nobody: see ovsdb.Watch.Changed.
func (o *OVS) Report(ctx context.Context, rs []ovsdb.Report) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := o.host.Faults.Ask("report"); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range rs {
		o.writes = append(o.writes, r)
		if r.Tunnel == "" {
			o.row.Reported = maps.Clone(r.Values)
		} else if t, is := o.tunnels[r.Tunnel]; is {
			t.Reported = maps.Clone(r.Values)
			o.tunnels[r.Tunnel] = t
		}
	}
	return nil
}

// Reports returns what was written since the last call.
func (o *OVS) Reports() []ovsdb.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.writes
	o.writes = nil
	return w
}

// SetHWOffload implements plugin.Database.
func (o *OVS) SetHWOffload(ctx context.Context, value string) (cfg int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = o.host.Faults.Run("open gate", func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if now := o.row.HWOffload; now != "" && now != value {
			return fmt.Errorf("set hw-offload: %w", &ovsdb.HWOffloadError{Value: now})
		}
		o.row.HWOffload = value
		cfg = o.configured()
		return nil
	})
	return cfg, err
}

// Hold implements plugin.Database.
func (o *OVS) Hold(ctx context.Context, h ovsdb.Hold) (cfg int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = o.host.Faults.Run("hold", func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		h = h.Over(o.row.Hold, o.row.FlowLimit)
		cfg = o.hold("0", &h)
		return nil
	})
	return cfg, err
}

// Unhold implements plugin.Database.
func (o *OVS) Unhold(ctx context.Context) (cfg int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = o.host.Faults.Run("unhold", func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		cfg = o.hold(o.row.Hold.Restored(o.row.FlowLimit), nil)
		return nil
	})
	return cfg, err
}

// hold writes flow-limit and the record, if they are not so already.
func (o *OVS) hold(limit string, h *ovsdb.Hold) int64 {
	if limit == o.row.FlowLimit && h.Equal(o.row.Hold) {
		return o.row.NextCfg
	}
	o.row.FlowLimit, o.row.Hold = limit, h
	return o.configured()
}

// configured is what ovs-vsctl does after a change, and ovs-vswitchd then.
func (o *OVS) configured() int64 {
	o.row.NextCfg++
	o.change()
	return o.row.NextCfg
}

// Offload sets other_config:hw-offload as the operator does; "" unsets it,
// which ovs-vswitchd does not heed until it is started again.
func (o *OVS) Offload(value string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.row.HWOffload = value
	o.configured()
}

// Limit sets other_config:flow-limit as the operator does; "" unsets it.
func (o *OVS) Limit(value string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.row.FlowLimit = value
	o.configured()
}

// SetHold puts a record in place that somebody else wrote, or takes it away.
func (o *OVS) SetHold(h *ovsdb.Hold) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.row.Hold = h
	o.wake()
}

// SetPort adds a port or changes it.
func (o *OVS) SetPort(ts ...ovsdb.Tunnel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range ts {
		t.Reported = o.tunnels[t.Name].Reported
		o.withdraw(t.Name)
		o.tunnels[t.Name] = t
		o.install(t.Name)
	}
	o.wake()
}

// DelPort deletes ports.
func (o *OVS) DelPort(names ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range names {
		o.withdraw(n)
		delete(o.tunnels, n)
	}
	o.wake()
}

// SetState says how far the database can be trusted, as when it goes away.
func (o *OVS) SetState(s ovsdb.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state = s
	o.wake()
}

// Tunnel returns what packets of a port carry outside; false when ovs-vswitchd
// would not know where to send them.
func (o *OVS) Tunnel(name string) (fakenic.Tunnel, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tunnel(name)
}

func (o *OVS) tunnel(name string) (fakenic.Tunnel, bool) {
	t, is := o.tunnels[name]
	if !is || t.ByFlow || !t.Remote.IsValid() || t.DstPort == 0 {
		return fakenic.Tunnel{}, false
	}
	k := fakenic.Tunnel{Src: t.Local, Dst: t.Remote, Port: t.DstPort, VNI: vni(name)}
	if !k.Src.IsValid() {
		src, err := o.host.Reach(t.Remote)
		if err != nil {
			return fakenic.Tunnel{}, false
		}
		k.Src = src
	}
	return k, true
}

// vni gives every port a network of its own.
func vni(name string) uint32 {
	n := uint32(0)
	for _, c := range []byte(name) {
		n = n*31 + uint32(c)
	}
	return n & 0xffffff
}
