// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Method is how the two ends of a tunnel prove to each other who they are.
type Method string

// The methods that need an IKE daemon. "" stands for none of them.
const (
	MethodPSK        Method = "psk"         // psk or psk_file: a secret that both ends have
	MethodSelfSigned Method = "self-signed" // remote_cert: the peer's very certificate
	MethodCA         Method = "ca"          // remote_name: a certificate of that name, signed by ca_cert
)

// Auth is what a port's options say about IKE authentication. The zero Auth asks
// for none. Files are named, not read.
type Auth struct {
	Method     Method
	PSK        Secret // options:psk
	PSKFile    string // options:psk_file or ipsec_psk_file: absolute path
	RemoteCert string // options:remote_cert: absolute path
	RemoteName string // options:remote_name: common name of the peer's certificate
}

// Equal tells whether a and b ask for the same.
func (a Auth) Equal(b Auth) bool {
	return a.Method == b.Method && a.PSK.Equal(b.PSK) && a.PSKFile == b.PSKFile &&
		a.RemoteCert == b.RemoteCert && a.RemoteName == b.RemoteName
}

// PKI names the files of this host's own certificate, of other_config. All
// tunnels share them. A path that is not absolute is left out.
type PKI struct {
	Certificate string // PEM
	PrivateKey  string // PEM, not encrypted
	CACert      string // PEM, one or more certificates
}

// own tells whether the host can prove who it is by a certificate.
func (p PKI) own() bool { return p.Certificate != "" && p.PrivateKey != "" }

// IKE is what the options that ovs-monitor-ipsec hands through to its IKE daemon
// ask for. A zero value leaves the choice to the daemon's own settings.
type IKE struct {
	ReplayWindow int           // in packets
	RekeyTime    time.Duration // age at which an SA is replaced
	IKERekeyTime time.Duration // age at which the IKE SA is replaced
	DPDDelay     time.Duration // silence after which the peer is asked for a sign of life
	OneChild     bool          // ipsec_children=one: one child SA for both directions
}

// keySource reads where the port's keys come from. One source may be named; the
// two options about a certificate are one, and so are two spellings.
func (r *optionReader) keySource() {
	groups := [][]string{
		r.present(optKeys), r.present(optPSK), r.present(optPSKFile, optIPsecPSKFile), r.present(optRemoteCert, optRemoteName),
	}
	groups = slices.DeleteFunc(groups, func(g []string) bool { return len(g) == 0 })
	r.keySet()
	switch {
	case len(groups) == 0:
		r.refuse(CodeNoKeys, "no key source: for IKE set psk_file, psk, remote_cert or remote_name; "+
			"for automation set ipsec_keys to the name of a key set (`ovs-ipsec-offload keys new` makes one)")
	case len(groups) > 1:
		r.refuse(CodeKeySources, "%s: a port has its keys from one source: keep one of these and remove the others",
			strings.Join(slices.Concat(groups...), ", "))
	}
	if r.t.IPsec {
		r.psk()
		r.pskFile()
		r.certificates()
		r.peer()
		r.children()
	}
	if r.t.Auth.Method != "" && r.t.Mode == Tunneled {
		r.refuse(CodeMode, "ipsec_mode=tunnel: SAs by IKE are in transport mode, as those of ovs-monitor-ipsec: remove the option, or use ipsec_keys")
	}
}

func (r *optionReader) keySet() {
	v, set := r.opts[optKeys]
	switch {
	case !set:
	case looksLikeKey(v):
		r.rawKey(optKeys)
	case !keySetName(v):
		r.refuse(CodeKeys, "ipsec_keys: not a name of a key set (letters, digits, '.', '_' and '-', at most 128, the first a letter or digit); "+
			"its value is not shown, in case it is a key")
	default:
		r.t.Keys = v
	}
}

func (r *optionReader) psk() {
	v, set := r.opts[optPSK]
	if !set {
		return
	}
	r.t.Auth.Method = MethodPSK
	if v == "" {
		r.refuse(CodePSK, "psk is empty: give both ends the same long random secret, or better a psk_file")
		return
	}
	r.t.Auth.PSK = NewSecret(v)
}

// pskFile never shows the value: somebody may have written the secret there.
func (r *optionReader) pskFile() {
	names := r.present(optPSKFile, optIPsecPSKFile)
	if len(names) == 0 {
		return
	}
	r.t.Auth.Method = MethodPSK
	v := r.opts[names[0]]
	switch {
	case len(names) == 2 && v != r.opts[names[1]]:
		r.refuse(CodePSKFile, "psk_file and ipsec_psk_file: two spellings of one option with two values: remove one")
	case !filePath(v):
		r.refuse(CodePSKFile, "%s: not an absolute path of a file on this host; its value is not shown, in case it is the secret", names[0])
	default:
		r.t.Auth.PSKFile = v
	}
}

// certificates has the rules of ovs-monitor-ipsec, but for this port alone: what
// another port names, and the host's own certificate beside a psk, do no harm.
func (r *optionReader) certificates() {
	cert, byCert := r.opts[optRemoteCert]
	name, byName := r.opts[optRemoteName]
	if !byCert && !byName {
		return
	}
	if byCert {
		r.t.Auth.Method = MethodSelfSigned
		r.remoteCert(cert)
	} else {
		r.t.Auth.Method = MethodCA
	}
	if byName {
		r.remoteName(name)
	}
	if !r.pki.own() {
		r.refuse(CodeNoCert, "%s: this host has no certificate to show its peer: set other_config:certificate and other_config:private_key "+
			"of Open_vSwitch to the paths of both files", strings.Join(r.present(optRemoteCert, optRemoteName), ", "))
	}
	if !byCert && r.pki.CACert == "" {
		r.refuse(CodeNoCA, "remote_name: nothing says whom to believe that a peer has that name: set other_config:ca_cert of Open_vSwitch "+
			"to the path of the CA's certificate, or remote_cert to that of the peer's own")
	}
}

func (r *optionReader) remoteCert(v string) {
	if !filePath(v) {
		r.refuse(CodeRemoteCert, "remote_cert %s: not an absolute path of a file on this host", quote(v))
		return
	}
	r.t.Auth.RemoteCert = v
}

// remoteName refuses what an IKE daemon would take for more than one name.
func (r *optionReader) remoteName(v string) {
	const most = 255
	switch {
	case v == "" || len(v) > most || strings.TrimSpace(v) != v || strings.ContainsFunc(v, unicode.IsControl):
		r.refuse(CodeRemoteName, "remote_name %s: not a common name of a certificate (CN, as `openssl x509 -noout -subject` shows it)", quote(v))
	case strings.Contains(v, "*") || strings.ContainsAny(v[:1], "%^#@"):
		r.refuse(CodeRemoteName, "remote_name %s: must be the one name of the peer's certificate, not a pattern that fits others too", quote(v))
	default:
		r.t.Auth.RemoteName = v
	}
}

// peer reads ipsec_peer. A peer that runs ovs-monitor-ipsec encrypts the default
// UDP port only and sends in clear text to any other (transp_tmpl there).
func (r *optionReader) peer() {
	v, set := r.opts[optPeer]
	switch {
	case !set:
	case v != peerStock:
		r.refuse(CodePeer, "ipsec_peer %s: must be %s, or not set for a peer that runs this program", quote(v), peerStock)
	case r.t.Auth.Method == "":
		r.refuse(CodePeer, "ipsec_peer=%s: such a peer has its keys by IKE only: set psk_file, psk, remote_cert or remote_name", peerStock)
	case r.t.DstPort != tunnelPort(r.t.Type):
		r.refuse(CodePeer, "ipsec_peer=%s with dst_port %d: it encrypts port %d only and would send to this one in clear text: remove dst_port on both hosts",
			peerStock, r.t.DstPort, tunnelPort(r.t.Type))
	default:
		r.t.StockPeer = true
	}
}

// children reads ipsec_children, which both ends must have alike.
func (r *optionReader) children() {
	v, set := r.opts[optChildren]
	switch {
	case !set:
	case v != childrenOne && v != childrenTwo:
		r.refuse(CodeChildren, "ipsec_children %s: must be two (a child SA for each direction, the default) or one (for both, at half the NIC's SAs)", quote(v))
	case r.t.Auth.Method == "":
		r.refuse(CodeChildren, "ipsec_children: is for keys by IKE: remove it, or set psk_file, psk, remote_cert or remote_name")
	case v == childrenOne && r.t.StockPeer:
		r.refuse(CodeChildren, "ipsec_children=one with ipsec_peer=%s: such a peer sets up a child SA for each direction: remove ipsec_children", peerStock)
	default:
		r.t.IKE.OneChild = v == childrenOne
	}
}

// filePath tells whether v is an absolute path, and written in one way only.
func filePath(v string) bool {
	const most = 4095 // PATH_MAX without the final NUL
	return path.IsAbs(v) && path.Clean(v) == v && v != "/" && len(v) <= most && !strings.ContainsFunc(v, unicode.IsControl)
}

// pkiOf reads the host's certificate files, and what is to be said about them.
func pkiOf(config map[string]string) (PKI, []Problem) {
	var notes []Problem
	get := func(key string) string {
		v, set := config[key]
		if set && !filePath(v) {
			notes = append(notes, Problem{CodeHostPKI, "other_config:" + key + " " + quote(v) +
				": not an absolute path of a file on this host: it counts as not set"})
			return ""
		}
		return v
	}
	p := PKI{Certificate: get(keyCertificate), PrivateKey: get(keyPrivateKey), CACert: get(keyCACert)}
	if !p.own() && p != (PKI{}) && len(notes) == 0 {
		notes = append(notes, Problem{CodeHostPKI, "other_config: certificate and private_key must both be set: " +
			"until then ports with remote_cert or remote_name are refused; others go on"})
	}
	if _, set := config[keySKBMark]; set {
		notes = append(notes, skbMark())
	}
	return p, notes
}

func skbMark() Problem {
	return Problem{CodeSKBMark, "other_config:ipsec_skb_mark is not needed and has no effect: " +
		"the guards stop clear text whatever its mark; a mark set by flows (egress_pkt_mark) would keep them out of the NIC: remove both"}
}
