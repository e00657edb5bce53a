// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"cmp"
	"net/netip"
	"strconv"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// The texts of ovs-monitor-ipsec for what is not there.
const (
	none         = "None"
	defaultRoute = "%defaultroute"
	notAssigned  = "Not assigned"
)

// Tunnels is the answer of tunnels/show: every port that asks for IPsec.
func (v View) Tunnels() string {
	x := v.index()
	x.chain(v.Seen.Policies, v.Seen.SAs)
	const usual = 1400 // bytes of one tunnel
	b := make([]byte, 0, usual*len(v.Seen.Status.Ports))
	own := v.Name(v.Snapshot.Host.PKI.Certificate)
	for i := range v.Snapshot.Tunnels {
		if t := &v.Snapshot.Tunnels[i]; t.IPsec {
			b = v.appendTunnel(b, x, t, own)
		}
	}
	if len(b) == 0 {
		return "No tunnels configured with IPsec\n"
	}
	return string(b)
}

// appendTunnel appends what there is to say of one port. own is the common name of
// the host's certificate.
func (v View) appendTunnel(b []byte, x index, t *ovsdb.Tunnel, own string) []byte {
	b = appendPlain(append(b, "Interface name: "...), t.Name)
	b = strconv.AppendInt(append(b, " v"...), int64(v.Version(t.Name)), 10)
	b = append(appendState(append(b, " ("...), t), ")\n"...)
	b = appendConfiguration(b, &v.Snapshot.Host, t, own, v.Name)
	b = appendField(b, "Ofport", ofport(t))
	b = appendField(b, "CFM state", cfm(t.Fault))
	b = append(v.appendOutcome(append(b, "  IPsec state:    "...), x, t), '\n')
	b = v.appendKernel(b, x, t)
	b = append(b, "IPsec connections that are active:\n"...)
	p := x.pairs[t.Name]
	for _, c := range connections(p) {
		b = append(v.appendConnection(append(b, "  "...), t.Name, c, p.PF), '\n')
	}
	return append(b, '\n')
}

// appendState appends what became of the options: CONFIGURED, or why not.
func appendState(b []byte, t *ovsdb.Tunnel) []byte {
	if len(t.Problems) == 0 {
		return append(b, "CONFIGURED"...)
	}
	b = append(b, "INVALID: "...)
	for i, p := range t.Problems {
		if i > 0 {
			b = append(b, "; "...)
		}
		b = appendReason(b, p.Text, p.Code)
	}
	return b
}

func appendReason(b []byte, text, code string) []byte {
	b = append(append(b, text...), " ["...)
	return append(append(b, code...), ']')
}

// appendConfiguration appends what a tunnel is configured with. A change of it is
// a new version of the tunnel.
func appendConfiguration(b []byte, h *ovsdb.Host, t *ovsdb.Tunnel, own string, name func(cert string) string) []byte {
	local, remote := shown(t.Local, defaultRoute), shown(t.Remote, none)
	if t.ByFlow && !t.Remote.IsValid() {
		remote = "flow"
	} else if t.ByFlow {
		local = "flow"
	}
	peer := t.Auth.RemoteName
	if t.Auth.RemoteCert != "" {
		peer = name(t.Auth.RemoteCert)
	}
	b = appendField(b, "Tunnel Type", t.Type)
	b = appendField(b, "Local IP", local)
	b = appendField(b, "Remote IP", remote)
	b = appendField(b, "Address Family", family(t))
	b = appendField(b, "SKB mark", cmp.Or(h.SKBMark, none))
	b = appendField(b, "Local cert", cmp.Or(h.PKI.Certificate, none))
	b = appendField(b, "Local name", cmp.Or(own, none))
	b = appendField(b, "Local key", cmp.Or(h.PKI.PrivateKey, none))
	b = appendField(b, "Remote cert", cmp.Or(t.Auth.RemoteCert, none))
	b = appendField(b, "Remote name", cmp.Or(peer, none))
	b = appendField(b, "CA cert", cmp.Or(h.PKI.CACert, none))
	b = appendField(b, "PSK", psk(t.Auth))
	b = append(b, "  Custom Options: "...)
	return append(appendOptions(b, t), '\n')
}

// psk says whether there is one, and never which.
func psk(a ovsdb.Auth) string {
	switch {
	case a.PSKFile != "":
		return a.PSK.String() + " in " + a.PSKFile
	case a.Method == ovsdb.MethodPSK, !a.PSK.Empty(): // beside a certificate too, which is refused
		return a.PSK.String()
	}
	return none
}

// appendOptions appends the ipsec options that are in force, without their prefix.
func appendOptions(b []byte, t *ovsdb.Tunnel) []byte {
	add := func(set bool, name, value string) {
		if set {
			b = appendQuoted(append(appendQuoted(appendComma(b, '{'), name), ": "...), value)
		}
	}
	b = append(b, '{')
	add(t.IKE.OneChild, "children", "one")
	add(t.Dev != "", "dev", t.Dev)
	add(t.IKE.DPDDelay != 0, "dpddelay", t.IKE.DPDDelay.String())
	add(t.IKE.IKERekeyTime != 0, "ikelifetime", t.IKE.IKERekeyTime.String())
	add(t.Keys != "", "keys", t.Keys)
	add(t.Mode == ovsdb.Tunneled, "mode", string(t.Mode))
	add(t.StockPeer, "peer", "ovs-monitor-ipsec")
	add(t.IKE.ReplayWindow != 0, "replay-window", strconv.Itoa(t.IKE.ReplayWindow))
	add(t.IKE.RekeyTime != 0, "salifetime", t.IKE.RekeyTime.String())
	return append(b, '}')
}

// appendOutcome appends what becomes of the tunnel's traffic, which
// ovs-monitor-ipsec does not tell.
func (v View) appendOutcome(b []byte, x index, t *ovsdb.Tunnel) []byte {
	if v.Seen.Status.State == plugin.Unseen {
		b = append(b, "(as last seen: the host cannot be looked at) "...)
	}
	p := x.ports[t.Name]
	if p == nil {
		return append(b, "not looked at yet"...)
	}
	b = append(b, p.State...)
	if pair := x.pairs[t.Name]; active(pair) {
		b = append(append(b, " by "...), pair.PF...)
	}
	if len(t.Problems) > 0 {
		return b // they stand in the first line
	}
	before := ": "
	for _, problem := range p.Problems {
		b = appendReason(append(b, before...), problem.Text, problem.Code)
		before = "; "
	}
	return b
}

// appendKernel appends the policies of a tunnel, and the SAs between its ends,
// outbound first.
func (v View) appendKernel(b []byte, x index, t *ovsdb.Tunnel) []byte {
	local := x.local(t)
	at := x.first[endsOf(local, t.Remote)]
	b = append(b, "Kernel policies installed:\n"...)
	for _, outbound := range []bool{true, false} {
		for n := at.policy; n != 0; n = x.policies[n-1] {
			p := &v.Seen.Policies[n-1]
			if (p.Sel.Src.Addr() == local) == outbound && matches(p.Sel, t.DstPort) {
				b = append(p.AppendShown(append(b, "  "...), v.Seen.Device), '\n')
			}
		}
	}
	b = append(b, "Kernel security associations installed:\n"...)
	for _, outbound := range []bool{true, false} {
		for n := at.sa; n != 0; n = x.sas[n-1] {
			if s := &v.Seen.SAs[n-1]; (s.Src == local) == outbound {
				b = append(s.AppendShown(append(b, "  "...), v.Seen.Device), '\n')
			}
		}
	}
	return b
}

// matches tells whether a selector takes traffic to or from a UDP port.
func matches(s xfrm.Selector, port uint16) bool {
	return s.DstPort == port || s.SrcPort == port || s.DstPort == 0 && s.SrcPort == 0
}

// appendField appends a line, with its value in column 18.
func appendField(b []byte, name, value string) []byte {
	const column = "                "
	b = append(append(append(b, "  "...), name...), ':')
	b = append(b, column[min(len(column), len(name)+1):]...)
	return append(appendPlain(b, value), '\n')
}

func shown(a netip.Addr, missing string) string {
	if !a.IsValid() {
		return missing
	}
	return a.String()
}

// family returns the family of a tunnel's addresses; None says that there is no
// remote one or that they are of two.
func family(t *ovsdb.Tunnel) string {
	switch {
	case !t.Remote.IsValid(), t.Local.IsValid() && t.Local.Is4() != t.Remote.Is4():
		return none
	case t.Remote.Is4():
		return "IPv4"
	}
	return "IPv6"
}

func ofport(t *ovsdb.Tunnel) string {
	if t.OFPort == 0 {
		return notAssigned
	}
	return strconv.Itoa(t.OFPort)
}

func cfm(fault *bool) string {
	switch {
	case fault == nil:
		return "Disabled"
	case *fault:
		return "Down"
	}
	return "Up"
}

// active tells whether a pair is encrypted now.
func active(p *plugin.PairStatus) bool { return p != nil && p.State == plugin.StateEncrypted }
