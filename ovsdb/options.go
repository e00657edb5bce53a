// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The options that are read. The first six are also those of ovs-vswitchd and of
// ovs-monitor-ipsec; see passthrough.go for the rest of the latter's.
const (
	optRemoteIP   = "remote_ip"
	optLocalIP    = "local_ip"
	optDstPort    = "dst_port"
	optPSK        = "psk"
	optRemoteCert = "remote_cert"
	optRemoteName = "remote_name"

	optMode         = "ipsec_mode"
	optOffload      = "ipsec_offload"
	optKeys         = "ipsec_keys"
	optDev          = "ipsec_dev"
	optPSKFile      = "psk_file"
	optIPsecPSKFile = "ipsec_psk_file" // another spelling: OVS 3.6 and newer warns of the first only
	optPeer         = "ipsec_peer"
	optChildren     = "ipsec_children"
)

// peerStock is the value of ipsec_peer for a peer that runs OVS's own script.
const peerStock = "ovs-monitor-ipsec"

// The values of ipsec_children.
const (
	childrenOne = "one"
	childrenTwo = "two"
)

// byFlow is the value of remote_ip and local_ip that leaves the address to the
// OpenFlow rules.
const byFlow = "flow"

// optionReader reads the options of one port into t. It goes on after a
// problem, so that the operator hears of all of them at once.
type optionReader struct {
	opts map[string]string
	pki  PKI // of the host
	t    *Tunnel
}

// readOptions fills in what follows from the options of t, whose Name and Type
// are set, on a host with the certificate files pki.
func readOptions(t *Tunnel, opts map[string]string, pki PKI) {
	r := optionReader{opts: opts, pki: pki, t: t}
	t.IPsec = wantsIPsec(opts)
	r.tunnelType()
	r.addresses()
	r.dstPort()
	r.mode()
	r.offload()
	r.keySource()
	r.dev()
	r.others()
}

// refuse notes a problem. A port that does not ask for IPsec is none of our
// business, whatever else is wrong with it.
func (r *optionReader) refuse(code, format string, args ...any) {
	if r.t.IPsec {
		r.t.Problems = append(r.t.Problems, Problem{Code: code, Text: fmt.Sprintf(format, args...)})
	}
}

func (r *optionReader) tunnelType() {
	if r.t.Type != typeVXLAN {
		r.refuse(CodeType, "type %s cannot be encrypted by the NIC, only vxlan can: use type=vxlan, or remove the port's ipsec options",
			quote(r.t.Type))
	}
}

// dstPort sets the port that OVS really uses, even when it is refused: that is
// where traffic has to be stopped.
func (r *optionReader) dstPort() {
	r.t.DstPort = tunnelPort(r.t.Type)
	v, set := r.opts[optDstPort]
	if !set || r.t.DstPort == 0 {
		return
	}
	r.t.DstPort = portAsOVS(v)
	if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
		r.refuse(CodeDstPort, "dst_port %s: not a UDP port (1 to 65535); OVS takes it for %d", quote(v), r.t.DstPort)
	}
}

func (r *optionReader) mode() {
	if !r.t.IPsec {
		return
	}
	r.t.Mode = Transport
	v, set := r.opts[optMode]
	switch m := Mode(v); {
	case !set || m == Transport:
	case m == Tunneled:
		r.t.Mode = Tunneled
	default:
		r.refuse(CodeMode, "ipsec_mode %s: must be transport or tunnel", quote(v))
	}
}

// offload takes packet offload only. Anything less is refused rather than
// replaced: the operator must never believe that the NIC does what it does not.
func (r *optionReader) offload() {
	v, set := r.opts[optOffload]
	switch {
	case !set || v == "packet":
	case v == "crypto":
		r.refuse(CodeOffload, "ipsec_offload=crypto: the host would build the ESP packets, and flows in the NIC would pass it by; "+
			"this version has packet offload only: use ipsec_offload=packet or remove the option")
	case v == "none":
		r.refuse(CodeOffload, "ipsec_offload=none: means encryption by the host's CPU, not clear text, and this version does not do it: "+
			"use ipsec_offload=packet or remove the option; for clear text remove all ipsec options")
	default:
		r.refuse(CodeOffload, "ipsec_offload %s: must be packet", quote(v))
	}
}

func (r *optionReader) present(names ...string) []string {
	return slices.DeleteFunc(names, func(n string) bool { _, set := r.opts[n]; return !set })
}

func (r *optionReader) rawKey(option string) {
	r.refuse(CodeRawKey, "option %s: a key must not stand in the database, where every client and every backup can read it: "+
		"remove it, never use that key again, and name a key set with ipsec_keys, or a file with psk_file", quote(option))
}

func (r *optionReader) dev() {
	v, set := r.opts[optDev]
	switch {
	case !set:
	case !deviceName(v):
		r.refuse(CodeDev, "ipsec_dev %s: not a name of a network device", quote(v))
	default:
		r.t.Dev = v
	}
}

// others reads the options for an IKE daemon, and refuses whatever else looks
// like an option of ours.
func (r *optionReader) others() {
	var odd []string
	for k := range r.opts {
		if !known(k) && concernsIPsec(normal(k)) {
			odd = append(odd, k)
		}
	}
	slices.Sort(odd)
	for _, k := range odd {
		switch n := normal(k); {
		case known(n):
			r.refuse(CodeUnknown, "unknown option %s: did you mean %s?", quote(k), n)
		case namesKey(n) || looksLikeKey(r.opts[k]):
			r.rawKey(k)
		case r.passed(k):
		default:
			r.refuse(CodeUnknown, "unknown option %s: known are %s", quote(k),
				strings.Join([]string{optMode, optOffload, optKeys, optDev, optIPsecPSKFile, optPeer, optChildren}, ", "))
		}
	}
}

// wantsIPsec tells whether any option asks for encryption. A misspelt one
// (ipsec-keys, IPsec_mode) does too: taking it for none would mean clear text.
func wantsIPsec(opts map[string]string) bool {
	for k := range opts {
		if concernsIPsec(normal(k)) {
			return true
		}
	}
	return false
}

// normal undoes the usual slips of spelling in an option's name.
func normal(k string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(k)), "-", "_")
}

func concernsIPsec(k string) bool {
	switch k {
	case optPSK, optPSKFile, optRemoteCert, optRemoteName:
		return true
	}
	return strings.HasPrefix(k, "ipsec")
}

func known(k string) bool {
	switch k {
	case optPSK, optPSKFile, optIPsecPSKFile, optRemoteCert, optRemoteName, optMode, optOffload, optKeys, optDev, optPeer, optChildren:
		return true
	}
	return false
}

// namesKey tells whether an ipsec option's name says that its value is a key:
// ipsec_key, ipsec_in_psk. Not ipsec_rekey and the like, which libreswan has.
func namesKey(k string) bool {
	switch k[strings.LastIndexByte(k, '_')+1:] {
	case "key", "enckey", "authkey", "psk", "secret", "password", "passphrase", "salt":
		return true
	}
	return false
}

// keySetName tells whether v is fit for the name of a key set, which becomes the
// name of a file. Package keys has the same rule.
func keySetName(v string) bool {
	const most = 128
	for i, c := range []byte(v) {
		alphanumeric := '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
		if !alphanumeric && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return v != "" && len(v) <= most
}

// minKeyDigits is the length of the shortest AES key in hexadecimal digits.
const minKeyDigits = 32

// looksLikeKey tells whether v can only be a key in hexadecimal.
func looksLikeKey(v string) bool {
	v = strings.TrimPrefix(strings.ToLower(v), "0x")
	return len(v) >= minKeyDigits && strings.Trim(v, "0123456789abcdef") == ""
}

// secretOption tells whether the value of an option has to stay out of sight:
// that of every option about IPsec but those that are known to hold no secret.
func secretOption(k string) bool {
	switch k {
	case optRemoteCert, optRemoteName, optMode, optOffload, optKeys, optDev, optPeer, optChildren:
		return false
	}
	return concernsIPsec(normal(k)) && !passedOption(k)
}

// deviceName tells whether the kernel would take v for a device's name
// (dev_valid_name, net/core/dev.c).
func deviceName(v string) bool {
	const ifNameSize = 16 // with the final NUL
	return v != "" && len(v) < ifNameSize && v != "." && v != ".." && !strings.ContainsAny(v, "/: \t\n\v\f\r\x00")
}

// quote makes a value from the database fit for one line of text.
func quote(v string) string {
	const most = 64
	if len(v) <= most {
		return strconv.Quote(v)
	}
	return strconv.Quote(strings.ToValidUTF8(v[:most], "")) + "…"
}
