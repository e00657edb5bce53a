// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"unique"

	"github.com/ovn-kubernetes/libovsdb/model"
)

// The tables and columns that are read; see ovs-vswitchd.conf.db(5). Columns
// that vswitchd rewrites by itself (statistics, status) are left out: each of
// them would wake the watch every few seconds. It writes cur_cfg once for every
// increment of next_cfg, ofport once for every port, and cfm_fault when a fault
// comes or goes.
const (
	database       = "Open_vSwitch"
	tableHost      = "Open_vSwitch"
	tableInterface = "Interface"
	columnUUID     = "_uuid"
	columnConfig   = "other_config"
	columnExternal = "external_ids"
	columnNext     = "next_cfg"
	keyHWOffload   = "hw-offload" // of other_config
)

// Keys of other_config that ovs-monitor-ipsec reads.
const (
	keyCertificate = "certificate"
	keyPrivateKey  = "private_key"
	keyCACert      = "ca_cert"
	keySKBMark     = "ipsec_skb_mark"
)

// Interface types with a meaning of their own.
const (
	typeVXLAN  = "vxlan"
	typeGeneve = "geneve"
	typeSystem = "system" // also written as "", see ovs-vswitchd.conf.db(5)
)

// interfaceRow is a row of table Interface.
type interfaceRow struct {
	UUID        string            `ovsdb:"_uuid"`
	Name        string            `ovsdb:"name"`
	Type        string            `ovsdb:"type"`
	Options     map[string]string `ovsdb:"options"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
	OFPort      *int              `ovsdb:"ofport"`
	CFMFault    *bool             `ovsdb:"cfm_fault"`
}

// CloneModel returns a deep copy; libovsdb would make one by way of JSON.
// Strings that repeat from row to row are stored once.
func (r *interfaceRow) CloneModel() model.Model {
	c := &interfaceRow{}
	r.CloneModelInto(c)
	return c
}

// CloneModelInto deep-copies r into dst, which is an *interfaceRow.
func (r *interfaceRow) CloneModelInto(dst model.Model) {
	c := dst.(*interfaceRow)
	c.UUID, c.Name, c.Type = r.UUID, r.Name, shared(r.Type)
	c.Options, c.ExternalIDs = sharedMap(r.Options), sharedMap(r.ExternalIDs)
	c.OFPort, c.CFMFault = clone(r.OFPort), clone(r.CFMFault)
}

// clone copies what p points to.
func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// hostRow is the one row of table Open_vSwitch.
type hostRow struct {
	UUID        string            `ovsdb:"_uuid"`
	OtherConfig map[string]string `ovsdb:"other_config"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
	OVSVersion  *string           `ovsdb:"ovs_version"`
	CurCfg      int               `ovsdb:"cur_cfg"`
	NextCfg     int               `ovsdb:"next_cfg"`
}

// tunnelTypes returns the Interface types that OVS tunnels with (OVS,
// lib/netdev-vport.c).
func tunnelTypes() []string {
	return []string{
		typeVXLAN, typeGeneve, "gre", "ip6gre", "erspan", "ip6erspan",
		"stt", "lisp", "gtpu", "bareudp", "srv6",
	}
}

// tunnelPort returns the UDP port that a tunnel type uses when dst_port is not
// set, and 0 for a type that does not run over UDP. (STT has the header of TCP.)
func tunnelPort(tunnelType string) uint16 {
	switch tunnelType {
	case typeVXLAN:
		return 4789 // RFC 7348
	case typeGeneve:
		return 6081 // RFC 8926
	case "lisp":
		return 4341 // RFC 9301
	case "gtpu":
		return 2152 // 3GPP TS 29.281
	case "bareudp":
		return 6635 // MPLS over UDP, RFC 7510
	}
	return 0
}

// shared returns the one stored copy of s.
func shared(s string) string { return unique.Make(s).Value() }

// sharedMap copies m. Keys and values are shared between rows, except for
// secrets, which are not put into a table that outlives their row.
func sharedMap(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	c := make(map[string]string, len(m))
	for k, v := range m {
		if !secretOption(k) {
			v = shared(v)
		}
		c[shared(k)] = v
	}
	return c
}
