// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ovs-ipsec-offload/plugin/ike"
)

// day is the longest lifetime that pluto takes.
const day = 24 * time.Hour

// connNames returns what pluto calls the two halves of a Conn, ours to start first.
func connNames(name string) [2]string { return [2]string{name + "-" + ike.Out, name + "-" + ike.In} }

// split undoes connNames.
func split(half string) (name, child string, ok bool) {
	for _, child := range []string{ike.Out, ike.In} {
		if name, ok := strings.CutSuffix(half, "-"+child); ok && strings.HasPrefix(name, ike.Prefix) {
			return name, child, true
		}
	}
	return "", "", false
}

// render returns the configuration of one half of a Conn, for addconn.
//
// rekey stays on for what the peer rekeys: without it pluto gives an SA equal soft and
// hard limits, which mlx5 refuses. Its lifetime is the longest, so that the sender is
// always first. There is one group for child SAs, because pluto takes no more than one.
func render(c ike.Conn, child string, o ike.Options, updown string) string {
	here, there, reqid := "udp", fmt.Sprintf("udp/%d", c.Port), c.ReqidOut
	life, margin, fuzz := lifetimes(cmp.Or(c.Own.RekeyTime, o.RekeyTime), o.RandTime)
	if c.Own.RekeyTime > 0 {
		fuzz = 0
	}
	if child == ike.In {
		here, there, reqid = there, here, c.ReqidIn
		life, margin, fuzz = day, time.Minute, 100
	}
	proposals, group, esn := "aes_gcm256-sha2_384;dh31,aes_gcm256-sha2_384;dh20", "aes_gcm256;dh31", "yes"
	if c.Stock {
		proposals, group, esn = "aes_gcm256-sha2_256;dh14,aes_gcm256-sha2_256;dh19", "aes_gcm256;dh14", "either"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "conn %s-%s\n", c.Name, child)
	for _, kv := range [][2]string{
		{"keyexchange", "ikev2"}, {"type", "transport"}, {"auto", "add"},
		{"left", c.Local.String()}, {"right", c.Remote.String()},
		{"leftid", quoted(id(c, c.Local, c.Auth.LocalID))}, {"rightid", quoted(id(c, c.Remote, c.Auth.RemoteID))},
		{"leftprotoport", here}, {"rightprotoport", there},
		{"authby", "secret"}, {"reqid", fmt.Sprint(reqid)},
		{"ike", proposals}, {"esp", group}, {"esn", esn},
		{"replay-window", fmt.Sprint(cmp.Or(c.Own.ReplayWindow, o.ReplayWindow))},
		{"nic-offload", offload(o)}, {"encapsulation", "no"}, {"mobike", "no"}, {"compress", "no"},
		{"dpddelay", seconds(cmp.Or(c.Own.DPDDelay, o.DPDDelay))}, {"retransmit-timeout", "30s"},
		{"rekey", "yes"}, {"salifetime", seconds(life)}, {"rekeymargin", seconds(margin)}, {"rekeyfuzz", fmt.Sprintf("%d%%", fuzz)},
		{"ikelifetime", seconds(min(cmp.Or(c.Own.IKERekeyTime, o.IKERekeyTime)+margin, day))},
		{"leftupdown", quoted(updown)},
	} {
		fmt.Fprintf(&b, "\t%s=%s\n", kv[0], kv[1])
	}
	return b.String()
}

func offload(o ike.Options) string {
	if o.NoOffload {
		return "no"
	}
	return "packet"
}

// lifetimes returns what makes pluto replace an SA at an age between rekey - random
// and rekey: it does so a margin before the end of its life, made longer by up to
// fuzz percent of itself.
func lifetimes(rekey, random time.Duration) (life, margin time.Duration, fuzz int) {
	margin = min(rekey, 10*time.Minute)
	life = rekey + margin
	if life > day {
		life = day // it is replaced by up to a margin too early
	}
	return life, margin, int(100 * random / margin)
}

// id returns the identity of one end as package ike has it.
func id(c ike.Conn, addr netip.Addr, own string) string {
	return cmp.Or(own, c.AddressID(addr))
}

// secrets returns the file of all secrets, for ipsec.secrets to include. They are in
// base64, in which there is nothing to be quoted.
func secrets(conns []ike.Conn) []byte {
	b := []byte("# Written by ovs-ipsec-offload: changes are lost.\n")
	for _, c := range conns {
		if unable(c) != nil {
			continue
		}
		b = fmt.Appendf(b, "%s %s : PSK 0s", quoted(id(c, c.Local, c.Auth.LocalID)), quoted(id(c, c.Remote, c.Auth.RemoteID)))
		b = base64.StdEncoding.AppendEncode(b, c.Auth.PSK.Bytes())
		b = append(b, '\n')
	}
	return b
}

// longestPSK is what fits on a line of ipsec.secrets (MAX_TOK_LEN in libreswan's
// include/lex.h) in base64, the identities before it; of a longer one libreswan would write
// the rest into its log.
const longestPSK = 1024

// unable says what libreswan cannot do for a Conn, or nil.
func unable(c ike.Conn) *ike.Problem {
	switch {
	case c.Auth.PSK.Empty():
		return &ike.Problem{Code: CodeKind, Text: "certificates are not done with libreswan by this version: use psk, or strongSwan (ike: strongswan)"}
	case len(c.Auth.PSK.Bytes()) > longestPSK:
		return &ike.Problem{Code: ike.CodeRefused, Text: fmt.Sprintf("a psk of more than %d bytes cannot be told to libreswan, whose secrets stand on lines of 2048: use a shorter one at both ends", longestPSK)}
	case c.OneChild:
		return &ike.Problem{Code: ike.CodeRefused, Text: "one child SA for both directions is not done with libreswan: leave ipsec_children out at both ends"}
	case slices.ContainsFunc([]string{c.Auth.LocalID, c.Auth.RemoteID}, func(s string) bool { return strings.ContainsAny(s, "\"\n\\") }):
		return &ike.Problem{Code: ike.CodeRefused, Text: "an identity with quotes, backslashes or line ends cannot be told to libreswan"}
	}
	return nil
}

// CodeKind is the code of a Conn that is refused: the IKE daemon cannot do what a port names for its keys.
const CodeKind = "IKE_AUTH_KIND"

// CodeSoftRX is the code of a note: what the peer sends is decrypted by the CPU; traffic flows.
const CodeSoftRX = "IKE_RX_CPU"

const softRX = "what the peer sends is decrypted by the CPU, not by the NIC: libreswan's SAs name UDP, and mlx5 before Linux 6.15 finds no such SA; use Linux 6.15 or later, or strongSwan"

func quoted(s string) string { return `"` + s + `"` }

func seconds(d time.Duration) string {
	return fmt.Sprintf("%ds", int64(max(d, time.Second)/time.Second))
}
