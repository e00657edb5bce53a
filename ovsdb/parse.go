// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// portsOf returns the rows that are tunnel ports, sorted by name. A row without
// a name is no port: nothing can refer to it.
func portsOf(rows []*interfaceRow) []*interfaceRow {
	types := tunnelTypes()
	ports := slices.DeleteFunc(slices.Clone(rows), func(r *interfaceRow) bool {
		return r.Name == "" || !slices.Contains(types, r.Type)
	})
	slices.SortFunc(ports, func(a, b *interfaceRow) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.UUID, b.UUID))
	})
	return ports
}

// snapshotOf turns rows into a Snapshot; ports comes from portsOf, and Tunnels
// has its order. It is pure and total: whatever stands in a row is a problem of
// one tunnel at most.
func snapshotOf(hosts []*hostRow, ports []*interfaceRow) Snapshot {
	return new(parsed).snapshot(hosts, ports)
}

// parsed holds what came of each row: the cache replaces a row that changes, so that
// stays true for as long as the row stands and the host has the same PKI.
type parsed struct {
	pki     PKI
	tunnels map[*interfaceRow]*Tunnel
}

// snapshot is snapshotOf, for which only rows are read that were not there the last time.
func (p *parsed) snapshot(hosts []*hostRow, ports []*interfaceRow) Snapshot {
	s := Snapshot{Tunnels: make([]Tunnel, len(ports))}
	if h := theHost(hosts); h != nil {
		s.Host = hostOf(h)
	}
	if p.pki != s.Host.PKI {
		*p = parsed{pki: s.Host.PKI}
	}
	tunnels := make(map[*interfaceRow]*Tunnel, len(ports))
	for i, r := range ports {
		if t := p.tunnels[r]; t != nil {
			s.Tunnels[i] = *t
		} else {
			s.Tunnels[i] = tunnelOf(r, p.pki)
		}
		tunnels[r] = &s.Tunnels[i]
	}
	p.tunnels = tunnels
	return s
}

// theHost returns the row of the host. The table has one (maxRows 1), or none before
// `ovs-vsctl init`.
func theHost(hosts []*hostRow) *hostRow {
	if len(hosts) == 0 {
		return nil
	}
	return slices.MinFunc(hosts, func(a, b *hostRow) int { return strings.Compare(a.UUID, b.UUID) })
}

// systemsOf returns the names of the rows that are devices of the host, sorted.
func systemsOf(rows []*interfaceRow) []string {
	var names []string
	for _, r := range rows {
		if r.Name != "" && (r.Type == typeSystem || r.Type == "") {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func hostOf(r *hostRow) Host {
	h := Host{
		UUID:      r.UUID,
		SystemID:  r.ExternalIDs["system-id"],
		Hostname:  r.ExternalIDs["hostname"],
		HWOffload: r.OtherConfig[keyHWOffload],
		FlowLimit: r.OtherConfig[keyFlowLimit],
		Hold:      holdOf(r.ExternalIDs),
		CurCfg:    int64(r.CurCfg),
		NextCfg:   int64(r.NextCfg),
		SKBMark:   r.OtherConfig[keySKBMark],
		Reported:  reported(r.ExternalIDs),
	}
	h.PKI, h.Notes = pkiOf(r.OtherConfig)
	if r.OVSVersion != nil {
		h.OVSVersion = *r.OVSVersion
	}
	return h
}

func tunnelOf(r *interfaceRow, pki PKI) Tunnel {
	t := Tunnel{Name: r.Name, Type: r.Type, Fault: r.CFMFault, Reported: reported(r.ExternalIDs)}
	if r.OFPort != nil && *r.OFPort > 0 { // -1: it could not be made
		t.OFPort = *r.OFPort
	}
	readOptions(&t, r.Options, pki)
	return t
}

// reported returns our own keys of external_ids, without their prefix.
func reported(ids map[string]string) map[string]string {
	var ours map[string]string
	for k, v := range ids {
		name, is := strings.CutPrefix(k, ReportPrefix)
		if !is {
			continue
		}
		if ours == nil {
			ours = make(map[string]string)
		}
		ours[name] = v
	}
	return ours
}

// equal tells whether two snapshots say the same.
func (s Snapshot) equal(o Snapshot) bool {
	return s.Host.equal(o.Host) && slices.EqualFunc(s.Tunnels, o.Tunnels, Tunnel.equal) && slices.Equal(s.Systems, o.Systems)
}

// equal leaves out the counters, which change with every call of ovs-vsctl on the
// host: whoever waits for one of them is told by the watch. What is only shown is
// no news either, here and of a tunnel.
func (h Host) equal(o Host) bool {
	return h.UUID == o.UUID && h.SystemID == o.SystemID && h.Hostname == o.Hostname &&
		h.OVSVersion == o.OVSVersion && h.HWOffload == o.HWOffload &&
		h.FlowLimit == o.FlowLimit && h.Hold.Equal(o.Hold) && h.PKI == o.PKI &&
		slices.Equal(h.Notes, o.Notes) && maps.Equal(h.Reported, o.Reported)
}

func (t Tunnel) equal(o Tunnel) bool {
	return t.Name == o.Name && t.Type == o.Type &&
		t.Local == o.Local && t.Remote == o.Remote && t.ByFlow == o.ByFlow && t.DstPort == o.DstPort &&
		t.IPsec == o.IPsec && t.Mode == o.Mode && t.Keys == o.Keys && t.Dev == o.Dev &&
		t.Auth.Equal(o.Auth) && t.IKE == o.IKE && t.StockPeer == o.StockPeer &&
		slices.Equal(t.Problems, o.Problems) && slices.Equal(t.Notes, o.Notes) && maps.Equal(t.Reported, o.Reported)
}
