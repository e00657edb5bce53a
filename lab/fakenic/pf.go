// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/devlink"
)

// Knobs choose the contract of a kernel or of a card. They are the parameters
// of the module simnic.
type Knobs struct {
	StrictSA     bool // each SA add looks for flows (Linux 6.18)
	AfterDecrypt bool // inbound policies see decrypted packets only (Linux 6.15)
	NoPriority   bool // the card has no policy priority
	MaxRXSA      int  // inbound SAs in switchdev mode; 0: no limit
	// AnyRoute sends what a rule encapsulates out of this NIC although the route
	// leads elsewhere, as mlx5 does (get_route_and_out_devs in en/tc_tun.c). The
	// module simnic leaves such packets to the host's stack.
	AnyRoute bool
	// LoseTXSA is a fault of the card: no packet finds its outbound SA, though
	// each stands. What a policy sends to one leaves in clear text.
	LoseTXSA   bool
	FailEINVAL int // so many times the eswitch lock is taken by another
}

// PF is one NIC with an embedded switch.
type PF struct {
	host    *Host
	ifindex int
	name    string
	handle  string
	up      bool
	master  string
	esp, tc bool // ethtool features esp-hw-offload, hw-tc-offload

	switchdev bool
	encap     bool // encap-mode basic
	smfs      bool
	multiport bool
	vfIPsec   map[string]bool // capabilities of functions that are on, as "0 ipsec_packet"
	knobs     Knobs

	tables  [tables]table
	objects int // mlx5: num_ipsec_offloads
	// mlx5: num_block_tc, num_block_ipsec, num_block_mode, num_block_encap
	blockTC, blockIPsec, blockMode, blockEncap int
	users                                      int // mlx5: user_count, offloaded flows
	uplinkUsers                                int // of those, held by the PF or a tunnel device
	sas                                        []*devSA
	policies                                   []*devPolicy
	count                                      Counters
	fragments                                  map[datagram]bool
	log                                        []string
}

// Counters are those of the module simnic, by the names that lab-nic prints.
type Counters struct {
	TXESP, RXESP               int
	TXClearVXLAN, RXClearVXLAN int
	TXBlocked, RXBlocked       int
	TXSAMiss, RXSAMiss         int
	RXAuthFail, RXMismatch     int
	RXReplay                   int
	FDBEncap, FDBDecap         int
}

func newPF(h *Host, name string, ifindex int) *PF {
	return &PF{host: h, name: name, ifindex: ifindex, handle: fmt.Sprintf("pci/0000:%02x:00.0", ifindex),
		up: true, esp: true, tc: true, switchdev: true, encap: true, knobs: Knobs{MaxRXSA: 2047}, vfIPsec: map[string]bool{}, fragments: map[datagram]bool{}}
}

// Ifindex returns the index of the netdev.
func (p *PF) Ifindex() int { return p.ifindex }

// Name returns the name of the netdev.
func (p *PF) Name() string { return p.name }

// Set changes the knobs.
func (p *PF) Set(change func(*Knobs)) {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	change(&p.knobs)
}

// Counters returns what the NIC has counted.
func (p *PF) Counters() Counters {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return p.count
}

// Log returns the NIC's own event log, oldest first.
func (p *PF) Log() []string {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	return append([]string(nil), p.log...)
}

// Tables is what stands in a NIC, by the names that lab-nic prints.
type Tables struct {
	TXTables, RXTables     int
	TXRefs, RXRefs         int
	TXStates, RXStates     int
	TXPolicies, RXPolicies int
	OffloadedFlows         int

	Mode, Encap, Steering                          string
	BlockMode, BlockEncap, BlockTC, BlockIPsec, VF int // what excludes what
}

// Tables returns the NIC's tables and what stands in them.
func (p *PF) Tables() Tables {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	s := Tables{TXRefs: p.tables[tableTX].refs, RXRefs: p.tables[tableRX].refs + p.tables[tableRX6].refs, OffloadedFlows: p.users,
		BlockMode: p.blockMode, BlockEncap: p.blockEncap, BlockTC: p.blockTC, BlockIPsec: p.blockIPsec, VF: len(p.vfIPsec)}
	f := p.facts()
	s.Mode, s.Encap, s.Steering = f.EswitchMode, f.EncapMode, f.Steering
	for i := range p.tables {
		if p.tables[i].refs > 0 && i == tableTX {
			s.TXTables++
		} else if p.tables[i].refs > 0 {
			s.RXTables++
		}
	}
	for _, a := range p.sas {
		if a.out {
			s.TXStates++
		} else {
			s.RXStates++
		}
	}
	for _, a := range p.policies {
		if a.out {
			s.TXPolicies++
		} else {
			s.RXPolicies++
		}
	}
	return s
}

// SetESP sets the ethtool feature esp-hw-offload, which is what the driver found
// at start.
func (p *PF) SetESP(on bool) {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	p.esp = on
}

// SetTC is `ethtool -K PF hw-tc-offload`. It stays on while rules of the PF or of
// tunnel devices are in hardware; rules of representors do not keep it on.
func (p *PF) SetTC(on bool) error {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	if r := p.setTC(on); r != nil {
		return r.errno
	}
	return nil
}

func (p *PF) setTC(on bool) *refusal {
	if !on && p.uplinkUsers > 0 {
		r := &refusal{errno: unix.EINVAL, why: "filters are offloaded"}
		p.refused("hw-tc-offload off", r)
		return r
	}
	p.tc = on
	return nil
}

// StatNames returns the names of mlx5's counters that `ethtool -S` shows.
func (p *PF) StatNames() []string {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	names := []string{"ipsec_rx_pkts", "ipsec_rx_bytes", "ipsec_rx_drop_pkts", "ipsec_rx_drop_bytes",
		"ipsec_tx_pkts", "ipsec_tx_bytes", "ipsec_tx_drop_pkts", "ipsec_tx_drop_bytes"}
	if p.knobs.AfterDecrypt {
		names = append(names, "ipsec_rx_drop_mismatch_sa_sel")
	}
	return names
}

// SetMaster enslaves the PF to a device, or frees it ("").
func (p *PF) SetMaster(name string) {
	p.host.mu.Lock()
	defer p.host.mu.Unlock()
	p.master = name
}

// facts says what devlink and ethtool say of the PF.
func (p *PF) facts() devlink.PF {
	f := devlink.PF{Link: devlink.Link{Ifindex: p.ifindex, Name: p.name}, Handle: p.handle, Driver: "mlx5_core", Up: p.up, Master: p.master,
		ESPOffload: p.esp, TCOffload: p.tc, EswitchMode: "legacy", EncapMode: "none", Steering: "dmfs", Multiport: p.multiport,
		RXPolicyAfterDecrypt: p.knobs.AfterDecrypt}
	if p.switchdev {
		f.EswitchMode = "switchdev"
	}
	if p.encap {
		f.EncapMode = "basic"
	}
	if p.smfs {
		f.Steering = "smfs"
	}
	for _, c := range slices.Sorted(maps.Keys(p.vfIPsec)) {
		f.VFIPsec = append(f.VFIPsec, p.handle+"/"+strings.Fields(c)[0])
	}
	f.VFIPsec = slices.Compact(f.VFIPsec)
	return f
}

// refused notes a refusal in the NIC's own log.
func (p *PF) refused(what string, r *refusal) {
	why := r.why
	if r.text != "" {
		why = strings.TrimPrefix(r.text, driver)
	}
	p.tell("%s", strings.TrimSuffix(fmt.Sprintf("refused %s %s: %s", what, ErrnoName(r.errno), why), ": "))
}

// ErrnoName returns the name of an error number; of two names the one that the
// drivers use.
func ErrnoName(e unix.Errno) string {
	if e == unix.EOPNOTSUPP {
		return "EOPNOTSUPP"
	}
	return unix.ErrnoName(e)
}

func (p *PF) tell(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
}
