// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"maps"
	"slices"
)

// tellLimit is how many ports the log names for one round: what befalls a NIC
// befalls thousands of ports at once.
const tellLimit = 20

// tellPorts logs the ports whose trouble is new, another, or over, and those that
// ask for no IPsec any more. The wording of a reason may change from round to round;
// state and code tell another trouble.
func (d *Daemon) tellPorts(ports []PortStatus, pairs []PairStatus) {
	now, said := make(map[string]string, len(ports)), 0
	name := func() bool { said++; return said <= tellLimit }
	for i := range ports {
		p := &ports[i]
		ill := ailment(p)
		was := d.ports[p.Name]
		delete(d.ports, p.Name)
		now[p.Name] = ill
		switch {
		case ill == was || !name():
		case ill == "":
			d.cfg.Log.Info("port is "+p.State, "port", p.Name)
		case len(p.Problems) == 0:
			d.cfg.Log.Warn("port is "+p.State, "port", p.Name)
		default:
			d.cfg.Log.Warn("port is "+p.State, "port", p.Name, "code", p.Problems[0].Code, "reason", p.Problems[0].Text)
		}
	}
	plain := plainPorts(pairs, d.ports)
	for _, n := range slices.Sorted(maps.Keys(d.ports)) {
		state, there := plain[n]
		switch {
		case !there && d.ports[n] == "" || !name():
		case there:
			d.cfg.Log.Warn("port has no ipsec option any more and asks for clear text", "port", n, "state", state)
		default:
			d.cfg.Log.Info("port is gone", "port", n)
		}
	}
	if d.ports = now; said > tellLimit {
		d.cfg.Log.Warn("more ports changed than are named here: `ovs-ipsec-offload status` lists them", "ports", said-tellLimit)
	}
}

// plainPorts returns those of the names that stand in a pair, with its state.
func plainPorts(pairs []PairStatus, names map[string]string) map[string]string {
	plain := map[string]string{}
	if len(names) == 0 {
		return plain
	}
	for i := range pairs {
		for _, n := range pairs[i].Ports {
			if _, is := names[n]; is {
				plain[n] = pairs[i].State
			}
		}
	}
	return plain
}

// ailment names the trouble of a port; "" when it has none.
func ailment(p *PortStatus) string {
	switch {
	case len(p.Problems) > 0:
		return p.State + " " + p.Problems[0].Code
	case p.State == StateEncrypted || p.State == StateClear:
		return ""
	}
	return p.State
}
