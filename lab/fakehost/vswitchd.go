// SPDX-License-Identifier: Apache-2.0

package fakehost

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"ovs-ipsec-offload/lab/fakenic"
)

// taken is what ovs-vswitchd knows of other_config.
type taken struct {
	offload bool // hw-offload was true once since it was started
	hold    bool // flow-limit is 0
}

// change lets ovs-vswitchd take what changed in the database.
func (o *OVS) change() {
	if !o.Slow {
		o.take()
	}
	o.wake()
}

// take is bridge_run of ovs-vswitchd after a change: hw-offload is looked at
// first, then flow-limit, and cur_cfg tells that it is done.
func (o *OVS) take() {
	if !o.runs {
		return
	}
	if o.row.HWOffload == "true" && !o.took.offload {
		o.took.offload = true
		if !o.Sticky {
			clear(o.kernel)
		}
	}
	o.took.hold = o.row.FlowLimit == "0"
	o.row.CurCfg = o.row.NextCfg
	for _, n := range slices.Sorted(maps.Keys(o.tunnels)) {
		if o.took.hold {
			o.withdraw(n)
		} else {
			o.install(n)
		}
	}
}

// Stop stops ovs-vswitchd and takes its datapath away, as a reboot does.
func (o *OVS) Stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs = false
	o.wipe()
}

// Kill kills ovs-vswitchd: its rules stay where they are.
func (o *OVS) Kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs = false
}

// Start starts ovs-vswitchd. What one before it left is wiped.
func (o *OVS) Start() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wipe()
	o.runs, o.took = true, taken{}
	o.take()
	o.wake()
}

func (o *OVS) wipe() {
	for n := range o.rules {
		o.withdraw(n)
	}
	clear(o.kernel)
	o.settle()
}

// Running tells whether ovs-vswitchd runs.
func (o *OVS) Running(ctx context.Context) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := o.host.Faults.Ask("look for ovs-vswitchd"); err != nil {
		return false, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs, nil
}

// Purge is revalidator/purge: ovs-vswitchd forgets all flows and makes them
// anew. Those that are in hardware are back before anybody looks: they stay.
func (o *OVS) Purge() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.runs {
		clear(o.kernel)
		o.anew(func(_ bool, inHW int) bool { return inHW > 0 })
	}
}

// Notice is what revalidators do after some dumps: a flow whose rules somebody
// else deleted is forgotten and made anew.
func (o *OVS) Notice() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.runs {
		o.anew(func(found bool, _ int) bool { return found })
	}
}

// anew makes the flows of all ports anew, unless each of their rules is well.
func (o *OVS) anew(well func(found bool, inHW int) bool) {
	for _, n := range slices.Sorted(maps.Keys(o.tunnels)) {
		ill := slices.ContainsFunc(o.rules[n], func(id fakenic.FlowID) bool { return !well(o.host.Rule(id)) })
		if !ill && (o.kernel[n] || len(o.rules[n]) > 0) {
			continue
		}
		o.drop(n)
		o.settle()
		o.install(n)
	}
}

// Settle lets ovs-vswitchd take what it has not taken yet, and takes away the
// rules that linger.
func (o *OVS) Settle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.row.CurCfg != o.row.NextCfg {
		o.take()
		o.wake()
	}
	o.settle()
}

func (o *OVS) settle() {
	for _, id := range o.leaving {
		_ = o.host.DeleteRule(id)
	}
	o.leaving = nil
}

// install makes the flows of a port, if ovs-vswitchd runs and may: in hardware
// if the NIC takes them, else in software, where they stay until they are
// purged. A port that has flows keeps them, whatever became of their rules.
func (o *OVS) install(name string) {
	k, can := o.tunnel(name)
	if !can || !o.runs || o.took.hold || len(o.rules[name]) > 0 || o.kernel[name] || o.tunnels[name].Type != "vxlan" {
		return
	}
	if !o.took.offload {
		o.kernel[name] = true
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

// withdraw takes the flows of a port away, or leaves their rules to linger.
func (o *OVS) withdraw(name string) {
	o.drop(name)
	if !o.Linger {
		o.settle()
	}
}

func (o *OVS) drop(name string) {
	o.leaving = append(o.leaving, o.rules[name]...)
	delete(o.rules, name)
	delete(o.kernel, name)
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
