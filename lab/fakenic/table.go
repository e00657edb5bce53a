// SPDX-License-Identifier: Apache-2.0

package fakenic

import "golang.org/x/sys/unix"

// The IPsec tables of a NIC. A switchdev NIC has one inbound table for both
// families; a legacy one has one for each (mlx5: ipsec_rx, ipsec_tx).
const (
	tableRX = iota
	tableRX6
	tableTX
	tables
)

type table struct {
	refs        int
	allowTunnel bool // made while the switch did no encapsulation
}

// refusal is why the driver does not take something.
type refusal struct {
	errno unix.Errno
	text  string // its own words, or "" for the general ones
	why   string // for the NIC's log, where text says nothing
}

// tryLock is mlx5_esw_try_lock.
func (p *PF) tryLock() *refusal {
	if p.knobs.FailEINVAL > 0 {
		p.knobs.FailEINVAL--
		return &refusal{errno: unix.EINVAL, why: "eswitch lock is taken"}
	}
	if p.users > 0 {
		return &refusal{errno: unix.EBUSY, why: "flows are offloaded"}
	}
	return nil
}

// table returns the table that an object of a direction and family uses.
func (p *PF) table(out, v6 bool) *table {
	switch {
	case out:
		return &p.tables[tableTX]
	case v6 && !p.switchdev:
		return &p.tables[tableRX6]
	}
	return &p.tables[tableRX]
}

func (p *PF) tableName(t *table) string {
	if t == &p.tables[tableTX] {
		return "tx"
	}
	return "rx"
}

// getTable is rx_get and tx_get: only the first user looks for flows.
func (p *PF) getTable(out, v6 bool) (*table, *refusal) {
	t := p.table(out, v6)
	if t.refs > 0 {
		t.refs++
		return t, nil
	}
	if r := p.tryLock(); r != nil {
		return nil, r
	}
	t.refs = 1
	p.blockMode++
	if !p.switchdev || !p.encap && !p.knobs.StrictSA { // mlx5_eswitch_block_encap
		t.allowTunnel = true
		p.blockEncap++
	}
	p.tell("%s table made", p.tableName(t))
	return t, nil
}

// putTable is rx_put and tx_put: when the outbound table goes, the rules that
// encapsulate are pointed at the wire, and nothing points them back.
func (p *PF) putTable(t *table) {
	if t.refs--; t.refs > 0 {
		return
	}
	if t == &p.tables[tableTX] {
		p.flowsToWire()
	}
	if t.allowTunnel {
		p.blockEncap--
	}
	t.allowTunnel = false
	p.blockMode--
	p.tell("%s table gone", p.tableName(t))
}

// getObject is mlx5_eswitch_block_ipsec.
func (p *PF) getObject() *refusal {
	if len(p.vfIPsec) > 0 {
		return &refusal{errno: unix.EBUSY, why: "a VF has IPsec enabled"}
	}
	p.objects++
	return nil
}

func (p *PF) putObject() { p.objects-- }

// getNoPFRules is mlx5e_ipsec_block_tc_offload.
func (p *PF) getNoPFRules() *refusal {
	if p.blockIPsec > 0 {
		return &refusal{errno: unix.EBUSY, why: "the PF itself has offloaded filters"}
	}
	p.blockTC++
	return nil
}

func (p *PF) putNoPFRules() { p.blockTC-- }
