// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"maps"
	"slices"
)

// tellLimit is how many ports the log names for one round: what befalls a NIC
// befalls thousands of ports at once.
const tellLimit = 20

// tellPorts logs the ports whose trouble is new, another, or over. The wording of
// a reason may change from round to round; state and code tell another trouble.
func (d *Daemon) tellPorts(ports []PortStatus) {
	now, said := make(map[string]string, len(d.ports)), 0
	name := func() bool { said++; return said <= tellLimit }
	for i := range ports {
		p := &ports[i]
		ill := ailment(p)
		was := d.ports[p.Name]
		if delete(d.ports, p.Name); ill != "" {
			now[p.Name] = ill
		}
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
	for _, n := range slices.Sorted(maps.Keys(d.ports)) {
		if name() {
			d.cfg.Log.Info("port is gone or asks for no IPsec any more", "port", n)
		}
	}
	if d.ports = now; said > tellLimit {
		d.cfg.Log.Warn("more ports changed than are named here: `ovs-ipsec-offload status` lists them", "ports", said-tellLimit)
	}
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
