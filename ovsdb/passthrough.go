// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// ovs-monitor-ipsec writes every option ipsec_K=V as K=V into the configuration
// of libreswan or strongSwan (ipsec.conf(5) of either), and OVN hands such
// options through. This file reads those that its users have: an option is taken
// to heart, named as one without effect, or refused for that port.

// spelling returns the name of an option of ipsec.conf as its daemons compare
// it, and false when k is not of the form ipsec_K. Daemons and their versions
// differ in dashes (dpddelay, dpd-delay; replay-window, replay_window).
func spelling(k string) (string, bool) {
	k, is := strings.CutPrefix(k, "ipsec_")
	if !is {
		return "", false
	}
	return strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(k), "-", ""), "_", ""), true
}

// passed reads an option for the IKE daemon; false when k is none.
func (r *optionReader) passed(k string) bool {
	name, is := spelling(k)
	if !is {
		return false
	}
	read := r.timesAndNumbers(name)
	if read == nil {
		read = r.choice(name)
	}
	if read == nil {
		return false
	}
	if r.t.Auth.Method == "" {
		r.refuse(CodeIKEOption, "%s: is for an IKE daemon, which has no part in this port: remove it", quote(k))
		return true
	}
	read(k, r.opts[k])
	return true
}

// reader reads one option, given as it is written.
type reader func(k, v string)

// timesAndNumbers returns how to read an option that has an amount.
func (r *optionReader) timesAndNumbers(name string) reader {
	life := span{10 * time.Second, 24 * time.Hour, "10 s to 24 h"}
	switch ike := &r.t.IKE; name {
	case "replaywindow":
		return r.replayWindow
	case "salifetime", "ipseclifetime", "keylife", "lifetime":
		return func(k, v string) { r.duration(k, v, life, &ike.RekeyTime) }
	case "ikelifetime":
		return func(k, v string) { r.duration(k, v, life, &ike.IKERekeyTime) }
	case "dpddelay":
		return func(k, v string) { r.duration(k, v, span{time.Second, time.Hour, "1 s to 1 h"}, &ike.DPDDelay) }
	}
	return nil
}

// replayWindow takes the sizes that mlx5 has (mlx5e_xfrm_validate_state).
func (r *optionReader) replayWindow(k, v string) {
	switch n, err := strconv.Atoi(v); {
	case err != nil || !slices.Contains([]int{32, 64, 128, 256}, n):
		r.refuse(CodeIKEOption, "%s %s: the NIC has replay windows of 32, 64, 128 and 256 packets", k, quote(v))
	case r.t.IKE.ReplayWindow != 0 && r.t.IKE.ReplayWindow != n:
		r.twice(k)
	default:
		r.t.IKE.ReplayWindow = n
	}
}

// span is what a time may be.
type span struct {
	least, most time.Duration
	text        string
}

func (r *optionReader) duration(k, v string, s span, into *time.Duration) {
	switch d, ok := parseSeconds(v); {
	case !ok || d < s.least || d > s.most:
		r.refuse(CodeIKEOption, "%s %s: must be a time from %s, as 3600, 60m or 1h", k, quote(v), s.text)
	case *into != 0 && *into != d:
		r.twice(k)
	default:
		*into = d
	}
}

func (r *optionReader) twice(k string) {
	r.refuse(CodeIKEOption, "%s: another spelling of this option has another value: keep one of them", quote(k))
}

// parseSeconds reads a time as ipsec.conf(5) has it: seconds, or a number with
// the unit s, m, h or d.
func parseSeconds(v string) (time.Duration, bool) {
	units := map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	digits := strings.TrimRight(v, "smhd")
	n, err := strconv.ParseUint(digits, 10, 31)
	unit, known := units[v[len(digits):]]
	if err != nil || !known {
		return 0, false
	}
	return time.Duration(n) * unit, time.Duration(n) <= 365*24*time.Hour/time.Second
}

// choice returns how to read an option that has a word. Words that ask for what
// is done anyway are fine; others are refused with the reason.
func (r *optionReader) choice(name string) reader {
	switch name {
	case "encapsulation", "forceencaps":
		return r.only("UDP-encapsulated ESP cannot be offloaded to the NIC; there must be no NAT between the VTEPs, and ESP (IP protocol 50) must pass", "no", "auto")
	case "nicoffload", "hwoffload":
		return r.only("this program has packet offload only", "packet")
	case "type":
		return r.only("with IKE, SAs have transport mode", "transport")
	case "rekey":
		return r.only("without new keys an SA comes to the end of its sequence numbers and stops", "yes")
	case "mobike":
		return r.only("the addresses of a VTEP do not move", "no")
	case "compress":
		return r.only("compressed packets cannot be offloaded", "no")
	case "esn":
		return r.only("32-bit sequence numbers are used up within minutes at line rate", "yes", "either", "yes,no")
	case "ikev2":
		return r.only("IKEv1 is not spoken", "yes", "insist", "propose")
	case "keyexchange":
		return r.only("IKEv1 is not spoken", "ikev2", "ike")
	case "ike", "esp", "phase2alg":
		return r.only("the ciphers are those that the NIC has (AES-GCM with 256 bits), with the stock proposals for a peer with ipsec_peer=" + peerStock)
	case "auto", "keyingtries", "rekeymargin", "margintime", "rekeyfuzz", "dpdtimeout", "dpdaction", "fragmentation", "pfs", "authby":
		return r.ignored
	}
	return nil
}

// only accepts the words that ask for what is done anyway.
func (r *optionReader) only(why string, words ...string) reader {
	return func(k, v string) {
		if !slices.Contains(words, v) {
			r.refuse(CodeIKEOption, "%s %s: %s: remove the option", k, quote(v), why)
		}
	}
}

func (r *optionReader) ignored(k, _ string) {
	r.t.Notes = append(r.t.Notes, Problem{CodeIgnored,
		k + ": has no effect: tunnels are set up, tried again, watched and rekeyed without end as the settings say"})
}

// passedOption tells whether k is an option for the IKE daemon that is known.
func passedOption(k string) bool {
	name, is := spelling(k)
	r := optionReader{t: &Tunnel{}}
	return is && (r.timesAndNumbers(name) != nil || r.choice(name) != nil)
}
