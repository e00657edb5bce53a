// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"hash/maphash"
	"maps"
	"strconv"
	"sync"

	"ovs-ipsec-offload/ovsdb"
)

// Versions counts how often the configuration of each tunnel changed, from 1, as
// ovs-monitor-ipsec does since its start. A tunnel that comes again under its name
// within one change of the database is the same.
type Versions struct {
	seed maphash.Seed

	mu  sync.Mutex
	now map[string]version
	buf []byte
}

// version is a number and what it stands for.
type version struct {
	number int
	hash   uint64
}

// NewVersions returns Versions that know of no tunnel.
func NewVersions() *Versions { return &Versions{seed: maphash.MakeSeed(), now: map[string]version{}} }

// Note compares the tunnels of a snapshot with what was noted last; name returns
// the common name of a certificate by its path.
func (v *Versions) Note(s ovsdb.Snapshot, name func(cert string) string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	own := name(s.Host.PKI.Certificate)
	asked := make(map[string]bool, len(v.now))
	for i := range s.Tunnels {
		t := &s.Tunnels[i]
		if !t.IPsec {
			continue
		}
		asked[t.Name] = true
		v.buf = appendState(appendConfiguration(v.buf[:0], &s.Host, t, own, name), t)
		v.buf = strconv.AppendUint(v.buf, uint64(t.DstPort), 10)
		secret := t.Auth.PSK.Bytes()
		v.buf = append(v.buf, secret...)
		is, was := maphash.Bytes(v.seed, v.buf), v.now[t.Name]
		clear(v.buf)
		clear(secret)
		if was.number == 0 || was.hash != is {
			v.now[t.Name] = version{was.number + 1, is}
		}
	}
	maps.DeleteFunc(v.now, func(name string, _ version) bool { return !asked[name] })
}

// Of returns the version of a tunnel, 1 for one that was not noted.
func (v *Versions) Of(tunnel string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return max(1, v.now[tunnel].number)
}
