// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"maps"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
)

// Memory holds the last credentials of each tunnel that could be used. Files, and
// the host's columns that name them, are replaced one after the other, and an IKE
// daemon keeps tunnels up though a certificate has expired: what there was before
// stays in use while what there is now cannot be used. The port's own options
// decide at once. A Memory is for one goroutine; the zero Memory is empty.
type Memory struct{ last map[string]remembered }

type remembered struct {
	auth ovsdb.Auth
	got  ike.Auth
}

// Settle takes what Credentials returned for the tunnel name, which asks for auth.
// It returns what to use, with a note when that is what there was before; or the
// refusal.
func (m *Memory) Settle(name string, auth ovsdb.Auth, got ike.Auth, refused *Problem) (use ike.Auth, note, still *Problem) {
	if refused == nil {
		if m.last == nil {
			m.last = make(map[string]remembered)
		}
		m.last[name] = remembered{auth, got}
		return got, nil, nil
	}
	was, has := m.last[name]
	if !has || !was.auth.Equal(auth) {
		delete(m.last, name)
		return ike.Auth{}, nil, refused
	}
	return was.got, problem(CodeStale, "the certificates and keys of before stay in use, until the next start of the daemon: %s", refused.Text), nil
}

// Keep forgets every tunnel that is not in names.
func (m *Memory) Keep(names map[string]bool) {
	maps.DeleteFunc(m.last, func(name string, _ remembered) bool { return !names[name] })
}
