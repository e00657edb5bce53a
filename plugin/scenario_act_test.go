// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// The commands of scenarios that change something.

// pf NAME IFINDEX adds a PF.
func cmdPF(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r.AddPF(args[0], n)
	return nil
}

// link NAME IFINDEX [KIND] adds another device.
func cmdLink(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r.AddLink(args[0], n, strings.Join(args[2:], ""))
	return nil
}

// vxlan NAME IFINDEX PORT adds a VXLAN device that is not Open vSwitch's.
func cmdVXLAN(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(args[2], 10, 16)
	if err != nil {
		return err
	}
	r.AddVXLAN(args[0], n, uint16(port), false)
	return nil
}

// addr PREFIX IFINDEX puts an address on a device; addr -del ADDRESS takes it off.
func cmdAddr(r *rig, args []string, _ io.Writer) error {
	if args[0] == "-del" {
		a, err := netip.ParseAddr(args[1])
		if err == nil {
			r.DelAddr(a)
		}
		return err
	}
	p, err := netip.ParsePrefix(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r.AddAddr(p, n)
	return nil
}

// knob PF NAME [NUMBER] chooses the contract of another kernel or card; knob lockdown
// makes the kernel hide keys.
func cmdKnob(r *rig, args []string, _ io.Writer) error {
	var err error
	if args[0] == "lockdown" {
		r.SetLockdown(true)
		return nil
	}
	n := 0
	if len(args) > 2 {
		if n, err = strconv.Atoi(args[2]); err != nil {
			return err
		}
	}
	r.PF(args[0]).Set(func(k *fakenic.Knobs) {
		switch args[1] {
		case "after-decrypt":
			k.AfterDecrypt = true
		case "before-decrypt":
			k.AfterDecrypt = false
		case "strict-sa":
			k.StrictSA = true
		case "lose-tx-sa":
			k.LoseTXSA = true
		case "keep-tx-sa":
			k.LoseTXSA = false
		case "no-priority":
			k.NoPriority = true
		case "max-rx-sa":
			k.MaxRXSA = n
		case "fail-einval":
			k.FailEINVAL = n
		default:
			err = fmt.Errorf("no knob %s", args[1])
		}
	})
	return err
}

// devlink PF encap|mode|steering VALUE, devlink PF vf|no-vf N, devlink PF down|up.
func cmdDevlink(r *rig, args []string, _ io.Writer) error {
	p := r.PF(args[0])
	switch args[1] {
	case "encap":
		return p.SetEncap(args[2])
	case "mode":
		return p.SetMode(args[2])
	case "steering":
		return p.SetSteering(args[2])
	case "vf", "no-vf":
		n, err := strconv.Atoi(args[2])
		return errors.Join(err, p.SetVFIPsec(n, "ipsec_packet", args[1] == "vf"))
	case "down", "up":
		p.SetUp(args[1] == "up")
		return nil
	}
	return fmt.Errorf("no setting %s", args[1])
}

// keys NAME… makes key sets, or new ones of the same names; keys -remove NAME
// removes a file.
func cmdKeys(r *rig, args []string, _ io.Writer) error {
	if args[0] == "-remove" {
		r.Keys.Remove(args[1])
		return nil
	}
	for _, n := range args {
		r.Keys.Make(n)
	}
	return nil
}

// port NAME [OPTION=VALUE]… adds a port or changes it. Besides options it takes
// type=TYPE and refused=CODE, for a port that package ovsdb refuses.
func cmdPort(r *rig, args []string, _ io.Writer) error {
	t := ovsdb.Tunnel{Name: args[0], Type: "vxlan", DstPort: 4789}
	for _, a := range args[1:] {
		k, v, _ := strings.Cut(a, "=")
		if err := setOption(&t, k, v); err != nil {
			return err
		}
	}
	r.OVS.SetPort(t)
	return nil
}

func setOption(t *ovsdb.Tunnel, k, v string) (err error) {
	t.IPsec = t.IPsec || strings.HasPrefix(k, "ipsec") || k == "psk"
	if t.IPsec && t.Mode == "" {
		t.Mode = ovsdb.Transport
	}
	var port uint64
	switch k {
	case "type":
		t.Type = v
	case "remote_ip", "local_ip":
		if v == "flow" {
			t.ByFlow = true
		} else if k == "remote_ip" {
			t.Remote, err = netip.ParseAddr(v)
		} else {
			t.Local, err = netip.ParseAddr(v)
		}
	case "dst_port":
		port, err = strconv.ParseUint(v, 10, 16)
		t.DstPort = uint16(port)
	case "ipsec_keys":
		t.Keys = v
	case "ipsec_mode":
		t.Mode = ovsdb.Mode(v)
	case "ipsec_dev":
		t.Dev = v
	case "ipsec_children":
		t.IKE.OneChild = v == "one"
	case "refused":
		t.Problems = append(t.Problems, ovsdb.Problem{Code: v, Text: "refused by package ovsdb"})
	case "psk":
		t.Auth = ovsdb.Auth{Method: ovsdb.MethodPSK, PSK: ovsdb.NewSecret(v)}
	default:
		err = fmt.Errorf("no option %s", k)
	}
	return err
}

// delport NAME… deletes ports.
func cmdDelPort(r *rig, args []string, _ io.Writer) error {
	r.OVS.DelPort(args...)
	return nil
}

// many N adds N ports with a key set each, in one transaction.
func cmdMany(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ts := make([]ovsdb.Tunnel, n)
	for i := range ts {
		name := fmt.Sprintf("vx%d", i)
		r.Keys.Make(name)
		ts[i] = secure(name, "10.0.0.1", netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)}).String(), name)
	}
	r.OVS.SetPort(ts...)
	return nil
}

// ovs stop|start|linger|settle|replaced|flow-limit=VALUE|hw-offload=VALUE|system=DEVICE|lost|unread|back.
func cmdOVS(r *rig, args []string, _ io.Writer) error {
	switch k, v, _ := strings.Cut(args[0], "="); k {
	case "stop":
		r.OVS.Stop()
	case "start":
		r.OVS.Start()
	case "linger":
		r.OVS.Linger = true
	case "settle":
		r.OVS.Settle()
	case "replaced": // by a database that knows of no hold
		r.OVS.SetHold(nil)
		r.OVS.Limit("")
	case "flow-limit":
		r.OVS.Limit(v)
	case "system":
		r.OVS.SetSystems(strings.Fields(v)...)
	case "hw-offload":
		r.OVS.Offload(v)
	case "lost":
		r.OVS.SetState(ovsdb.State{Known: true, Err: unix.ECONNREFUSED})
	case "unread":
		r.OVS.SetState(ovsdb.State{Err: unix.ENOENT})
	case "back":
		r.OVS.SetState(ovsdb.State{Known: true, Connected: true})
	default:
		return fmt.Errorf("ovs cannot %s", args[0])
	}
	return nil
}

// settings gate=auto|off guard=auto|tunnels retrofit=never|ask|auto strict_sa=drain|wait unguarded=allow|refuse.
func cmdSettings(r *rig, args []string, _ io.Writer) error {
	for _, a := range args {
		switch a {
		case "gate=auto", "gate=off":
			r.cfg.Settings.GateAuto = a == "gate=auto"
		case "on-leak=report", "on-leak=block":
			r.cfg.Settings.BlockLeaks = a == "on-leak=block"
		case "guard=auto", "guard=tunnels":
			r.cfg.Settings.GuardAuto = a == "guard=auto"
		case "retrofit=never", "retrofit=ask", "retrofit=auto":
			r.cfg.Settings.Retrofit = plugin.Retrofit(strings.TrimPrefix(a, "retrofit="))
		case "strict_sa=drain", "strict_sa=wait":
			r.cfg.Settings.DrainForSAs = a == "strict_sa=drain"
		case "unguarded=allow", "unguarded=refuse":
			r.cfg.Settings.Unguarded = a == "unguarded=allow"
		default:
			return fmt.Errorf("no setting %s", a)
		}
	}
	r.d.SetSettings(r.cfg.Settings)
	return nil
}

// round makes rounds until there is nothing to do at once.
func cmdRound(r *rig, _ []string, _ io.Writer) error { return r.settle() }

// pass DURATION moves the clock and makes rounds.
func cmdPass(r *rig, args []string, _ io.Writer) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	r.Clock.Advance(d)
	return r.settle()
}

// clock DURATION moves the clock only.
func cmdClock(r *rig, args []string, _ io.Writer) error {
	d, err := time.ParseDuration(args[0])
	r.Clock.Advance(d)
	return err
}

// lose states|policies|guards|guard ADDRESS|in PORT|out PORT: what a stranger's
// hand takes away.
func cmdLose(r *rig, args []string, _ io.Writer) error {
	switch args[0] {
	case "states":
		r.FlushStates()
		return nil
	case "policies":
		r.FlushPolicies()
		return nil
	case "guards", "guard":
		return loseGuards(r, strings.Join(args[1:], ""))
	}
	k, can := r.OVS.Tunnel(args[1])
	if !can {
		return fmt.Errorf("no pair of %s", args[1])
	}
	sas, err := r.SAs(context.Background())
	if err != nil {
		return err
	}
	for i := range sas {
		if s := &sas[i]; s.Dir.String() == args[0] && (s.Dst == k.Dst || s.Src == k.Dst) {
			return r.Do(context.Background(), []xfrm.Op{{Kind: xfrm.DeleteSA, SA: s}})[0]
		}
	}
	return fmt.Errorf("no SA %s of %s", args[0], args[1])
}

// loseGuards takes away the guards of an address, "" for all.
func loseGuards(r *rig, address string) error {
	policies, err := r.Policies(context.Background())
	if err != nil {
		return err
	}
	for i := range policies {
		if p := &policies[i]; p.Priority == plugin.PriorityGuard && (address == "" || p.Sel.Src.Addr().String() == address || p.Sel.Dst.Addr().String() == address) {
			if err := r.Do(context.Background(), []xfrm.Op{{Kind: xfrm.DeletePolicy, Policy: p}})[0]; err != nil {
				return err
			}
		}
	}
	return nil
}

// repair, park and unpark are the operator's verbs, with the rounds that follow.
func cmdRepair(r *rig, _ []string, _ io.Writer) error {
	r.d.Repair()
	return r.settle()
}

func cmdPark(r *rig, _ []string, _ io.Writer) error {
	r.cfg.Parked = true
	r.d.Park(true)
	return r.settle()
}

func cmdUnpark(r *rig, _ []string, _ io.Writer) error {
	r.cfg.Parked = false
	r.d.Park(false)
	return r.settle()
}

// alarm makes the next round begin with what stops clear text.
func cmdAlarm(r *rig, _ []string, _ io.Writer) error {
	r.d.Alarm()
	return nil
}

// ike answer|rekey|end|kill|stop|start|hangs: what the IKE daemon and its peers do.
func cmdIKE(r *rig, args []string, _ io.Writer) error {
	ctx := context.Background()
	switch args[0] {
	case "answer":
		return r.IKE.Answer(ctx)
	case "rekey":
		return r.IKE.Replace(ctx)
	case "end":
		r.IKE.End(ctx)
	case "kill":
		r.IKE.Kill()
	case "stop":
		r.IKE.Stop(ctx)
	case "start":
		r.IKE.Start()
	case "hangs":
		r.IKE.Hangs = true
	default:
		return fmt.Errorf("IKE cannot %s", args[0])
	}
	return nil
}

// restart starts the daemon anew; the kernel keeps what it has.
func cmdRestart(r *rig, _ []string, _ io.Writer) error {
	r.restart()
	r.d.SetSettings(r.cfg.Settings)
	return nil
}

// reboot empties the kernel and the NICs; database, key sets and ledger stay.
func cmdReboot(r *rig, _ []string, _ io.Writer) error {
	r.OVS.Stop()
	r.FlushStates()
	r.FlushPolicies()
	r.cfg.BootID = "boot-2"
	r.restart()
	return nil
}

// fault ERRNO TIMES WORD… strikes the operation whose label is the words.
func cmdFault(r *rig, args []string, _ io.Writer) error {
	if args[0] == "none" {
		r.Faults.Set()
		return nil
	}
	errno := map[string]unix.Errno{"EBUSY": unix.EBUSY, "EPERM": unix.EPERM, "ENOMEM": unix.ENOMEM, "ENOSPC": unix.ENOSPC}[args[0]]
	times, err := strconv.Atoi(args[1])
	if err != nil || errno == 0 {
		return fmt.Errorf("fault %v: no such errno or number", args)
	}
	r.Faults.Set(fakenic.Fault{Label: strings.Join(args[2:], " "), Errno: errno, Times: times})
	return nil
}

// peer PORT… gives the peer of each port the set that the port names: from now on it
// sends a packet by it before each round. peer -gone PORT… ends that.
func cmdPeer(r *rig, args []string, _ io.Writer) error {
	for _, name := range args {
		r.peers[name] = args[0] != "-gone"
	}
	for name, is := range r.peers {
		if !is {
			delete(r.peers, name)
		}
	}
	return nil
}

// rotate PORT has the operator turn a pair to the set that its port names.
func cmdRotate(r *rig, args []string, _ io.Writer) error {
	snap, _ := r.OVS.Current()
	for _, t := range snap.Tunnels {
		if t.Name == args[0] {
			_, err := r.d.Rotate(context.Background(), t.Name, t.Keys, true)
			return errors.Join(err, r.settle())
		}
	}
	return fmt.Errorf("no port %s", args[0])
}

// traffic PORT N [in|clear-in] sends N packets of a VM, or has the NIC receive
// N of the peer, encrypted or in clear text.
func cmdTraffic(r *rig, args []string, _ io.Writer) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	k, can := r.OVS.Tunnel(args[0])
	if !can {
		return fmt.Errorf("%s sends nowhere", args[0])
	}
	for range n {
		switch strings.Join(args[2:], "") {
		case "":
			r.SendVF(k)
		case "clear-in":
			r.PFs()[0].Receive(fakenic.Tunnel{Src: k.Dst, Dst: k.Src, Port: k.Port, VNI: k.VNI}.Frame())
		case "in":
			if err := cmdReceive(r, []string{args[0], "esp"}, io.Discard); err != nil {
				return err
			}
		}
	}
	return nil
}

// shadow ADDRESS REMOTE lets a stranger put an allow policy in front of ours.
func cmdShadow(r *rig, args []string, _ io.Writer) error {
	p := &xfrm.Policy{Dir: xfrm.Out, Priority: 100, Action: xfrm.Allow, Offload: xfrm.Offload{Ifindex: 4, Packet: true},
		Sel: xfrm.Selector{Src: netip.MustParsePrefix(args[0] + "/32"), Dst: netip.MustParsePrefix(args[1] + "/32"), Proto: 17}}
	return r.Do(context.Background(), []xfrm.Op{{Kind: xfrm.AddPolicy, Policy: p}})[0]
}

// audit lets an audit period pass in small steps, as timers would.
func cmdAudit(r *rig, _ []string, _ io.Writer) error {
	for range 20 {
		r.Clock.Advance(r.cfg.AuditEvery / 20)
		if err := r.settle(); err != nil {
			return err
		}
	}
	return nil
}
