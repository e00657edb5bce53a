// SPDX-License-Identifier: Apache-2.0

package fakenic_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/lab/rules"
	"ovs-ipsec-offload/xfrm"
)

// TestRules holds the model against every rule script that the module simnic is
// held against.
func TestRules(t *testing.T) {
	all, err := rules.All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 80 {
		t.Fatalf("only %d rules were found", len(all))
	}
	for _, r := range all {
		t.Run(r.ID, func(t *testing.T) {
			t.Parallel()
			u := rules.Runner{NIC: &model{}}
			if err := u.Run(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
}

// model is the NIC of the rule scripts, in memory.
type model struct {
	*fakenic.Host
	pf *fakenic.PF
	in map[uint32]xfrm.Fingerprint // keys of inbound states, by SPI
}

// Indexes of the devices in the setting of the scripts.
const (
	idxPF    = 4
	idxRep0  = 104 // which AddPF makes
	idxRep1  = 105
	idxVXLAN = 200
)

func (m *model) index(dev string) int {
	return map[string]int{"pf0": idxPF, "rep0": idxRep0, "rep1": idxRep1, "vxlan0": idxVXLAN}[dev]
}

// Reset implements rules.NIC.
func (m *model) Reset(_ context.Context, params []rules.Param) error {
	m.Host, m.in = fakenic.New(), map[uint32]xfrm.Fingerprint{}
	m.pf = m.AddPF("pf0", idxPF)
	m.AddRepresentor(m.pf, "rep1", idxRep1)
	m.AddVXLAN("vxlan0", idxVXLAN, 4789, true)
	m.AddAddr(netip.MustParsePrefix("10.0.0.1/24"), idxPF)
	m.AddAddr(netip.MustParsePrefix("fd00::1/64"), idxPF)
	for _, p := range params {
		if err := m.param(p); err != nil {
			return err
		}
	}
	return nil
}

// param makes the NIC as a module parameter says.
func (m *model) param(p rules.Param) error {
	n, err := strconv.Atoi(p.Value)
	switch p.Name {
	case "legacy":
		return m.pf.SetMode("legacy")
	case "steering":
		// A NIC may come up in switchdev with smfs, which nobody can set then.
		return errors.Join(m.pf.SetMode("legacy"), m.pf.SetSteering(p.Value), m.pf.SetMode("switchdev"))
	case "strict_sa":
		m.pf.Set(func(k *fakenic.Knobs) { k.StrictSA = n == 1 })
	case "rx_policy_after_decrypt":
		m.pf.Set(func(k *fakenic.Knobs) { k.AfterDecrypt = n == 1 })
	case "no_policy_priority":
		m.pf.Set(func(k *fakenic.Knobs) { k.NoPriority = n == 1 })
	case "max_rx_sa":
		m.pf.Set(func(k *fakenic.Knobs) { k.MaxRXSA = n })
	case "fail_einval":
		m.pf.Set(func(k *fakenic.Knobs) { k.FailEINVAL = n })
	default:
		return fmt.Errorf("set parameter %s: there is none of this name", p.Name)
	}
	return err
}

// Apply implements rules.NIC.
func (m *model) Apply(_ context.Context, c rules.Command) (rules.Answer, error) {
	inHW, err := m.apply(c)
	var op *xfrm.OpError
	var dl *fakenic.DevlinkError
	var errno unix.Errno
	switch {
	case err == nil:
		return rules.Answer{InHW: inHW}, nil
	case errors.As(err, &op):
		return rules.Answer{Errno: fakenic.ErrnoName(op.Errno), Text: op.Ext}, nil
	case errors.As(err, &dl):
		return rules.Answer{Errno: fakenic.ErrnoName(dl.Errno), Text: dl.Text}, nil
	case errors.As(err, &errno):
		return rules.Answer{Errno: fakenic.ErrnoName(errno)}, nil
	}
	return rules.Answer{}, err
}

func (m *model) apply(c rules.Command) (inHW bool, err error) {
	switch c := c.(type) {
	case rules.StateAdd:
		return false, m.addState(c)
	case rules.StateDelete:
		return false, m.do(xfrm.Op{Kind: xfrm.DeleteSA, SA: &xfrm.SA{Src: c.Src, Dst: c.Dst, SPI: c.SPI}})
	case rules.StateFlush:
		m.FlushStates()
	case rules.PolicyAdd:
		return false, m.addPolicy(c)
	case rules.PolicyDelete:
		return false, m.do(xfrm.Op{Kind: xfrm.DeletePolicy, Policy: &xfrm.Policy{Dir: direction(c.Dir), Sel: selector(c.Src, c.Dst, c.Upper)}})
	case rules.PolicyFlush:
		m.FlushPolicies()
	case rules.FilterAdd:
		_, n, err := m.AddRule(m.rule(c))
		return n > 0, err
	case rules.FilterDel:
		m.DeleteRules(m.index(c.Dev), c.Pref)
	case rules.LinkSet:
		m.pf.SetUp(c.Up)
	default:
		return false, m.configure(c)
	}
	return false, nil
}

// configure carries out what devlink and ethtool do.
func (m *model) configure(c rules.Command) error {
	switch c := c.(type) {
	case rules.EswitchSet:
		if c.Key == "mode" {
			return m.pf.SetMode(c.Value)
		}
		return m.pf.SetEncap(c.Value)
	case rules.SteeringSet:
		return m.pf.SetSteering(c.Value)
	case rules.FunctionSet:
		return m.pf.SetVFIPsec(c.VF, c.Cap, c.On)
	case rules.FeatureSet:
		if c.Dev == "pf0" {
			return m.pf.SetTC(c.On)
		}
		m.SetTC(m.index(c.Dev), c.On)
		return nil
	case rules.KnobSet:
		return m.param(c.Param)
	}
	return fmt.Errorf("%v: the model does not know it", c)
}

func (m *model) do(op xfrm.Op) error { return m.Do(context.Background(), []xfrm.Op{op})[0] }

func direction(d string) xfrm.Dir {
	return map[string]xfrm.Dir{"in": xfrm.In, "out": xfrm.Out, "fwd": xfrm.Fwd}[d]
}

func mode(m string) xfrm.Mode {
	return map[string]xfrm.Mode{"transport": xfrm.Transport, "tunnel": xfrm.Tunnel}[m]
}

func protocol(p string) uint8 { return map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17}[p] }

func selector(src, dst netip.Prefix, u rules.Upper) xfrm.Selector {
	return xfrm.Selector{Src: src, Dst: dst, Proto: protocol(u.Proto), SrcPort: u.SPort, DstPort: u.DPort}
}

func (m *model) addState(c rules.StateAdd) error {
	s := fakenic.State{SA: xfrm.SA{Src: c.Src, Dst: c.Dst, SPI: c.SPI, Reqid: c.Reqid, Mode: mode(c.Mode), ESN: c.ESN, Window: c.Window}}
	if c.Mode != "transport" && c.Mode != "tunnel" {
		s.Odd.Mode = c.Mode
	}
	if c.Proto == "ah" {
		s.Proto = 51
	}
	if c.Sel != nil {
		s.Upper = fakenic.Upper{Proto: protocol(c.Sel.Proto), SrcPort: c.Sel.SPort, DstPort: c.Sel.DPort}
	}
	s.Encap, s.Limits = c.Encap != nil, limits(c.Limits)
	if c.Offload != nil {
		s.Offload, s.Dir, s.Crypto = xfrm.Offload{Ifindex: m.index(c.Offload.Dev), Packet: c.Offload.Packet}, direction(c.Offload.Dir), !c.Offload.Packet
	}
	if err := algorithms(&s, c.Algs); err != nil {
		return err
	}
	if s.Dir == xfrm.In {
		m.in[s.SPI] = s.Print
	}
	if c.Update {
		return m.UpdateState(s)
	}
	return m.AddState(s)
}

func algorithms(s *fakenic.State, algs []rules.Alg) error {
	for _, a := range algs {
		key, err := hex.DecodeString(strings.TrimPrefix(a.Key, "0x"))
		if err != nil {
			return err
		}
		switch {
		case a.Type == "auth":
			s.Auth = true
		case a.Type == "enc":
			s.Cipher = a.Name
		default:
			s.ICVBits, s.KeyBits, s.Print = a.ICV, 8*len(key), xfrm.FingerprintOf(key)
		}
	}
	return nil
}

func limits(ls []rules.Limit) *fakenic.Limits {
	if len(ls) == 0 {
		return nil
	}
	l := &fakenic.Limits{SoftBytes: fakenic.NoLimit, HardBytes: fakenic.NoLimit, SoftPackets: fakenic.NoLimit, HardPackets: fakenic.NoLimit}
	for _, x := range ls {
		switch x.Kind {
		case "byte-soft":
			l.SoftBytes = x.Value
		case "byte-hard":
			l.HardBytes = x.Value
		case "packet-soft":
			l.SoftPackets = x.Value
		case "packet-hard":
			l.HardPackets = x.Value
		}
	}
	return l
}

func (m *model) addPolicy(c rules.PolicyAdd) error {
	r := fakenic.Request{Policy: xfrm.Policy{Dir: direction(c.Dir), Sel: selector(c.Src, c.Dst, c.Upper), Priority: c.Priority}, SubType: c.Sub, Templates: len(c.Tmpls)}
	if c.Block {
		r.Action = xfrm.Block
	}
	if c.Offload != nil {
		r.Offload = xfrm.Offload{Ifindex: m.index(c.Offload.Dev), Packet: c.Offload.Packet}
	}
	if len(c.Tmpls) > 0 {
		t := c.Tmpls[0]
		r.Tmpl = &xfrm.Template{Src: t.Src, Dst: t.Dst, Reqid: t.Reqid, Mode: mode(t.Mode)}
	}
	if c.Update {
		return m.UpdatePolicy(r)
	}
	return m.AddPolicy(r)
}

func tunnel(t *rules.Tunnel) *fakenic.Tunnel {
	if t == nil {
		return nil
	}
	return &fakenic.Tunnel{Src: t.Src, Dst: t.Dst, Port: t.DPort, VNI: t.ID}
}

func (m *model) rule(c rules.FilterAdd) fakenic.Rule {
	r := fakenic.Rule{Dev: m.index(c.Dev), Pref: c.Pref, Family: c.Family, Dst: c.Dst, Outer: tunnel(c.Tunnel), SkipSW: c.SkipSW}
	for _, a := range c.Actions {
		var x fakenic.Action
		switch a.Kind {
		case "encap":
			x.Encap = tunnel(a.Set)
		case "decap":
			x.Decap = true
		case "redirect":
			x.Redirect = m.index(a.Dev)
		case "mirror":
			x.Mirror = m.index(a.Dev)
		}
		r.Actions = append(r.Actions, x)
	}
	return r
}

// Send implements rules.NIC.
func (m *model) Send(_ context.Context, p rules.Packet) (rules.Fate, error) {
	f := fakenic.Frame{Src: p.Src, Dst: p.Dst, TCP: p.Proto == "tcp", SrcPort: p.SPort, DstPort: p.DPort, VXLAN: p.VXLAN, VLAN: p.VLAN, Options: p.Options,
		Frag: map[string]fakenic.Fragment{"first": fakenic.First, "later": fakenic.Later}[p.Frag]}
	if p.VXLAN {
		f.VNI = 100
	}
	switch p.From {
	case rules.VF:
		return rules.Fate{Out: frames(m.SendInner(idxRep0, f)...)}, nil
	case rules.PF:
		return rules.Fate{Out: frames(m.pf.Transmit(f))}, nil
	}
	if p.ESP != nil {
		f.ESP = &fakenic.ESP{SPI: p.ESP.SPI, Seq: p.ESP.Seq, BadICV: p.ESP.BadICV, Key: m.in[p.ESP.SPI]}
	}
	return rules.Fate{In: map[fakenic.Port]rules.Port{fakenic.ToVF: rules.VF, fakenic.ToHost: rules.PF}[m.pf.Receive(f).In]}, nil
}

// frames returns what of the fates is a frame on the wire.
func frames(fates ...fakenic.Fate) (out []rules.Frame) {
	for _, f := range fates {
		switch {
		case f.Way == fakenic.Crypted:
			out = append(out, rules.Frame{Proto: "esp", SPI: f.SPI})
		case f.Way != fakenic.Clear:
		case f.Frame.Frag == fakenic.Later:
			out = append(out, rules.Frame{Proto: "other"})
		case f.Frame.TCP:
			out = append(out, rules.Frame{Proto: "tcp", DPort: f.Frame.DstPort})
		default:
			out = append(out, rules.Frame{Proto: "udp", DPort: f.Frame.DstPort})
		}
	}
	return out
}

// Status implements rules.NIC.
func (m *model) Status(context.Context) (rules.Status, error) {
	t, c := m.pf.Tables(), m.pf.Counters()
	values := map[string]string{"mode": t.Mode, "encap": t.Encap, "steering": t.Steering}
	for k, v := range map[string]int{
		"tx_tables": t.TXTables, "rx_tables": t.RXTables, "tx_refs": t.TXRefs, "rx_refs": t.RXRefs,
		"tx_states": t.TXStates, "rx_states": t.RXStates, "tx_policies": t.TXPolicies, "rx_policies": t.RXPolicies,
		"offloaded_flows": t.OffloadedFlows, "num_block_mode": t.BlockMode, "num_block_encap": t.BlockEncap,
		"num_block_tc": t.BlockTC, "num_block_ipsec": t.BlockIPsec, "vf_ipsec_caps": t.VF,
		"tx_esp": c.TXESP, "rx_esp": c.RXESP, "tx_clear_vxlan": c.TXClearVXLAN, "rx_clear_vxlan": c.RXClearVXLAN,
		"tx_blocked": c.TXBlocked, "rx_blocked": c.RXBlocked, "tx_sa_miss": c.TXSAMiss, "rx_sa_miss": c.RXSAMiss,
		"rx_auth_fail": c.RXAuthFail, "rx_mismatch": c.RXMismatch, "rx_replay": c.RXReplay, "fdb_encap": c.FDBEncap, "fdb_decap": c.FDBDecap,
	} {
		values[k] = strconv.Itoa(v)
	}
	return rules.Status{Values: values, Log: m.pf.Log()}, nil
}

// Counters implements rules.NIC.
func (m *model) Counters(context.Context) ([]string, error) { return m.pf.StatNames(), nil }

var _ rules.NIC = (*model)(nil)
