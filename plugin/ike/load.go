// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// The proposals, in strongSwan's words and in the order in which they are
// offered. A peer of ours gets no SA without extended sequence numbers: 32 bits
// wrap in minutes at line rate, and mlx5 checks no replay without them. What
// ovs-monitor-ipsec writes for strongSwan has none; for libreswan both ways do.
var (
	ikeProposals      = []string{"aes256gcm16-prfsha384-x25519", "aes256gcm16-prfsha384-ecp384"}
	espProposals      = []string{"aes256gcm16-x25519-esn", "aes256gcm16-ecp384-esn"}
	ikeProposalsStock = []string{"aes256gcm16-prfsha256-modp2048", "aes256gcm16-prfsha256-ecp256"}
	espProposalsStock = []string{"aes256gcm16-modp2048-esn-noesn", "aes256gcm16-ecp256-esn-noesn", "aes256gcm16-esn-noesn"}
)

// childName returns what the daemon calls a Conn's child, which is Out, In or Both.
func childName(conn, child string) string { return conn + "-" + child }

// loadConn returns the message of load-conn, the keys being those of
// swanctl.conf(5).
func loadConn(c Conn, o Options) vici.Message {
	o = o.of(c)
	proposals := ikeProposals
	if c.Stock {
		proposals = ikeProposalsStock
	}
	return vici.Message{vici.Section(c.Name,
		vici.Text("version", "2"),
		vici.List("local_addrs", c.Local.String()),
		vici.List("remote_addrs", c.Remote.String()),
		vici.List("proposals", proposals...),
		vici.Text("mobike", "no"),
		vici.Text("encap", "no"),
		vici.Text("unique", "never"), // trim ends one of two, after the other is complete
		vici.Text("keyingtries", "1"),
		vici.Text("dpd_delay", seconds(o.DPDDelay)),
		vici.Text("reauth_time", "0s"),
		vici.Text("rekey_time", seconds(o.IKERekeyTime-offset(c.Name, o.IKERekeyTime/16))),
		vici.Text("over_time", seconds(o.IKERekeyTime/10+mark(c.Auth))),
		vici.Text("send_cert", "always"),
		vici.Section("local", local(c)...),
		vici.Section("remote", remote(c)...),
		vici.Section("children", children(c, o)...))}
}

func children(c Conn, o Options) (m vici.Message) {
	for _, name := range c.Children() {
		m = append(m, vici.Section(childName(c.Name, name), child(c, o, name)...))
	}
	return m
}

func child(c Conn, o Options, name string) vici.Message {
	here, there, reqid := c.traffic(name)
	rekey, random := o.RekeyTime, o.RandTime
	if name == In || name == Both && !c.Lead {
		rekey, random = 0, 0 // the other end's business
	}
	proposals := espProposals
	if c.Stock {
		proposals = espProposalsStock
	}
	m := vici.Message{
		vici.List("local_ts", here),
		vici.List("remote_ts", there),
		vici.Text("mode", "transport"),
		vici.List("esp_proposals", proposals...),
		vici.Text("reqid", strconv.FormatUint(uint64(reqid), 10)),
		vici.Text("policies", "yes"),
		vici.Text("policies_fwd_out", "no"),
		vici.Text("replay_window", strconv.Itoa(o.ReplayWindow)),
		vici.Text("rekey_time", seconds(rekey)),
		vici.Text("rand_time", seconds(random)),
		vici.Text("life_time", seconds(o.LifeTime)),
		vici.Text("start_action", "none"),
		vici.Text("close_action", "none"),
		vici.Text("dpd_action", "clear"),
	}
	if !o.NoOffload {
		m = append(m, vici.Text("hw_offload", "packet"))
	}
	return m
}

// traffic returns the traffic selectors of a child and its reqid.
func (c Conn) traffic(name string) (here, there string, reqid uint32) {
	all, overlay := "dynamic[udp]", fmt.Sprintf("dynamic[udp/%d]", c.Port)
	switch name {
	case Both:
		return all, all, c.ReqidOut
	case In:
		return overlay, all, c.ReqidIn
	}
	return all, overlay, c.ReqidOut
}

func local(c Conn) vici.Message { return party(c, c.localID(), c.Auth.Cert) }

func remote(c Conn) vici.Message {
	m := party(c, c.remoteID(), c.Auth.RemoteCert)
	if len(c.Auth.CA) > 0 {
		m = append(m, vici.Blobs("cacerts", blocks(c.Auth.CA)...))
	}
	return m
}

// party returns what the section of either end begins with.
func party(c Conn, id string, certs []byte) vici.Message {
	m := vici.Message{vici.Text("auth", c.Auth.method())}
	if id != "" {
		m = append(m, vici.Text("id", id))
	}
	if len(certs) > 0 {
		m = append(m, vici.Blobs("certs", blocks(certs)...))
	}
	return m
}

// loadShared returns the message of load-shared. The owners keep one Conn's
// secret from being tried for another.
func loadShared(c Conn) vici.Message {
	return vici.Message{
		vici.Text("id", c.Name),
		vici.Text("type", "IKE"),
		vici.Data("data", c.Auth.PSK.Bytes()),
		vici.List("owners", c.localID(), c.remoteID()),
	}
}

// loadKey returns the message of load-key.
func loadKey(key Secret) vici.Message {
	return vici.Message{vici.Text("type", "any"), vici.Data("data", key.Bytes())}
}

// initiate returns the message of initiate that comes back at once.
func initiate(conn, child string) vici.Message {
	return vici.Message{
		vici.Text("child", childName(conn, child)),
		vici.Text("ike", conn),
		vici.Text("timeout", "-1"),
	}
}

// terminateIKE returns the message of terminate that says good-bye to the peer
// and does not wait for its answer.
func terminateIKE(id uint32) vici.Message {
	return vici.Message{
		vici.Text("ike-id", strconv.FormatUint(uint64(id), 10)),
		vici.Text("force", "yes"),
		vici.Text("timeout", "-1"),
	}
}

// terminateChild returns the message of terminate that comes back at once.
func terminateChild(id uint32) vici.Message {
	return vici.Message{
		vici.Text("child-id", strconv.FormatUint(uint64(id), 10)),
		vici.Text("timeout", "-1"),
	}
}

// childID returns the message of rekey for one child.
func childID(id uint32) vici.Message {
	return vici.Message{vici.Text("child-id", strconv.FormatUint(uint64(id), 10))}
}

// named returns the message of unload-conn.
func named(name string) vici.Message { return vici.Message{vici.Text("name", name)} }

// byID returns the message of unload-shared and unload-key.
func byID(id string) vici.Message { return vici.Message{vici.Text("id", id)} }

func (a Auth) method() string {
	if !a.PSK.Empty() {
		return "psk"
	}
	return "pubkey"
}

// localID returns the identity to show; "" leaves it to the daemon, which takes
// the certificate's subject.
func (c Conn) localID() string {
	switch {
	case c.Auth.LocalID != "":
		return c.Auth.LocalID
	case !c.Auth.PSK.Empty():
		return c.AddressID(c.Local)
	}
	return certID(c.Auth.Cert)
}

// remoteID returns the identity to expect; "" leaves it to the daemon, which
// accepts what the certificate confirms.
func (c Conn) remoteID() string {
	switch {
	case c.Auth.RemoteID != "":
		return c.Auth.RemoteID
	case !c.Auth.PSK.Empty():
		return c.AddressID(c.Remote)
	}
	return certID(c.Auth.RemoteCert)
}

// AddressID returns the IKE identity for one of the Conn's addresses. A second overlay
// between the same two addresses needs one of its own, or the daemon takes the two for one.
func (c Conn) AddressID(addr netip.Addr) string {
	if c.Port == 4789 || c.Stock {
		return addr.String()
	}
	return fmt.Sprintf("udp%d@%s", c.Port, addr)
}

// certID returns the common name of a certificate if it is one of its DNS names
// too. strongSwan takes no other for an identity, and falls back to the subject.
func certID(data []byte) string {
	block, _ := pem.Decode(data)
	if block == nil {
		return ""
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !slices.Contains(cert.DNSNames, cert.Subject.CommonName) {
		return ""
	}
	return cert.Subject.CommonName
}

// blocks returns the certificates of a PEM file as DER, and what is not PEM as
// it is, for the daemon to judge.
func blocks(data []byte) [][]byte {
	var all [][]byte
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			all = append(all, block.Bytes)
		}
	}
	if all == nil {
		all = append(all, bytes.Clone(data))
	}
	return all
}

// mark returns a time, up to 1020 s, that differs from one Auth to another. Added to
// over_time it has charon take a changed Auth for another configuration, and not put
// new children into the IKE SA of the old one.
func mark(a Auth) time.Duration {
	h := sha256.New()
	for _, part := range [][]byte{a.PSK.Bytes(), []byte(a.LocalID), []byte(a.RemoteID), a.Cert, a.RemoteCert, a.CA, a.Key.Bytes()} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return time.Duration(binary.BigEndian.Uint32(h.Sum(nil))%1021) * time.Second
}

// offset returns a time, less than most, that most Conns have to themselves. Taken from
// rekey_time it tells their configurations apart early: charon compares that of each IKE SA
// it has with the one it is to initiate, and identities, which come last, take ten times as
// long.
func offset(conn string, most time.Duration) time.Duration {
	h := sha256.Sum256([]byte(conn))
	return (time.Duration(binary.BigEndian.Uint32(h[:])) * time.Second % max(most, 1)).Truncate(time.Second)
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}
