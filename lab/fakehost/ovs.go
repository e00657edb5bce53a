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
	// Linger leaves the rules of a port that is gone in hardware until Settle,
	// as revalidators do.
	Linger bool

	mu      sync.Mutex
	systems []string
	tunnels map[string]ovsdb.Tunnel
	row     ovsdb.Host
	state   ovsdb.State
	runs    bool
	rules   map[string][]fakenic.FlowID // by port
	leaving []fakenic.FlowID
	devs    map[uint16]int // UDP port to tunnel device
	writes  []ovsdb.Report
	changed chan struct{}
}

func newOVS(h *fakenic.Host) *OVS {
	return &OVS{host: h, tunnels: map[string]ovsdb.Tunnel{}, rules: map[string][]fakenic.FlowID{}, devs: map[uint16]int{},
		row:   ovsdb.Host{UUID: "00000000-0000-0000-0000-000000000001", SystemID: "hv1", Hostname: "hv1.example", OVSVersion: "3.5.0"},
		state: ovsdb.State{Known: true, Connected: true}, runs: true, changed: make(chan struct{}, 1)}
}

// Current implements plugin.Database.
func (o *OVS) Current() (ovsdb.Snapshot, ovsdb.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := ovsdb.Snapshot{Host: o.row, Systems: slices.Clone(o.systems)}
	s.Host.Reported = maps.Clone(o.row.Reported)
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

// Report implements plugin.Database.
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
	o.wake()
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
		cfg = o.configured()
		o.setHWOffload(value)
		return nil
	})
	return cfg, err
}

// configured is what ovs-vsctl and ovs-vswitchd do to the counters of changes.
func (o *OVS) configured() int64 {
	o.row.NextCfg++
	if o.runs {
		o.row.CurCfg = o.row.NextCfg
	}
	return o.row.NextCfg
}

// Offload sets other_config:hw-offload as the operator does; "" unsets it,
// which ovs-vswitchd does not heed until it is started again.
func (o *OVS) Offload(value string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.setHWOffload(value)
}

func (o *OVS) setHWOffload(value string) {
	o.row.HWOffload = value
	for _, n := range slices.Sorted(maps.Keys(o.tunnels)) {
		o.offload(n)
	}
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
		o.offload(t.Name)
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

// Stop stops ovs-vswitchd and takes its datapath away, as a reboot does.
func (o *OVS) Stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs = false
	for n := range o.rules {
		o.withdraw(n)
	}
	o.settle()
}

// Start starts ovs-vswitchd.
func (o *OVS) Start() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs = true
	o.row.CurCfg = o.row.NextCfg
	o.setHWOffload(o.row.HWOffload)
}

// Settle takes away the rules of ports that are gone.
func (o *OVS) Settle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settle()
}

func (o *OVS) settle() {
	for _, id := range o.leaving {
		_ = o.host.DeleteRule(id)
	}
	o.leaving = nil
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

// offload makes the rules of a port, if ovs-vswitchd runs and may.
func (o *OVS) offload(name string) {
	k, can := o.tunnel(name)
	if !can || !o.runs || o.row.HWOffload != "true" || len(o.rules[name]) > 0 || o.tunnels[name].Type != "vxlan" {
		return
	}
	dev := o.device(k.Port)
	back := fakenic.Tunnel{Src: k.Dst, Dst: k.Src, Port: k.Port, VNI: k.VNI}
	rep := o.host.Representor(k.Src)
	for _, r := range []fakenic.Rule{fakenic.EncapRule(rep, dev, k), fakenic.DecapRule(dev, rep, back)} {
		if id, _, err := o.host.AddRule(r); err == nil {
			o.rules[name] = append(o.rules[name], id)
		}
	}
}

// withdraw takes the rules of a port away, or leaves them to linger.
func (o *OVS) withdraw(name string) {
	o.leaving = append(o.leaving, o.rules[name]...)
	delete(o.rules, name)
	if !o.Linger {
		o.settle()
	}
}

// device returns the index of the tunnel device for a UDP port.
func (o *OVS) device(port uint16) int {
	dev, is := o.devs[port]
	if !is {
		dev = 1000 + int(port)
		o.devs[port] = dev
		o.host.AddVXLAN(fmt.Sprintf("vxlan_sys_%d", port), dev, port, true)
	}
	return dev
}
