// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"cmp"
	"slices"
	"strings"

	"ovs-ipsec-offload/ovsdb"
)

// Role is what a file is for. It decides what must be in it and who may get at it.
type Role string

// The roles, named as the option or column that names the file.
const (
	Certificate Role = "certificate"
	PrivateKey  Role = "private_key"
	CACert      Role = "ca_cert"
	RemoteCert  Role = "remote_cert"
	PSKFile     Role = "psk_file"
)

// secret tells whether nobody else may read such a file.
func (r Role) secret() bool { return r == PrivateKey || r == PSKFile }

// Ref names one file in one role.
type Ref struct {
	Role Role
	Path string // absolute
}

// String returns the reference as messages name it.
func (r Ref) String() string { return string(r.Role) + " " + r.Path }

// compare orders by role, then by path.
func (r Ref) compare(o Ref) int {
	return cmp.Or(strings.Compare(string(r.Role), string(o.Role)), strings.Compare(r.Path, o.Path))
}

// Refs returns the files that a tunnel needs, on a host with the files of host.
func Refs(auth ovsdb.Auth, host ovsdb.PKI) []Ref {
	var refs []Ref
	add := func(role Role, path string) {
		if path != "" {
			refs = append(refs, Ref{role, path})
		}
	}
	switch auth.Method {
	case ovsdb.MethodPSK:
		add(PSKFile, auth.PSKFile)
	case ovsdb.MethodSelfSigned:
		add(Certificate, host.Certificate)
		add(PrivateKey, host.PrivateKey)
		add(RemoteCert, auth.RemoteCert)
	case ovsdb.MethodCA:
		add(Certificate, host.Certificate)
		add(PrivateKey, host.PrivateKey)
		add(CACert, host.CACert)
	}
	return refs
}

// AllRefs returns the files that the tunnels need, each once, in order.
func AllRefs(tunnels []ovsdb.Tunnel, host ovsdb.PKI) []Ref {
	var refs []Ref
	for i := range tunnels {
		if t := &tunnels[i]; t.IPsec {
			refs = append(refs, Refs(t.Auth, host)...)
		}
	}
	slices.SortFunc(refs, Ref.compare)
	return slices.Compact(refs)
}

// Paths returns the paths of refs, each once, in order.
func Paths(refs []Ref) []string {
	paths := make([]string, len(refs))
	for i, r := range refs {
		paths[i] = r.Path
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
