// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// MinSPI is the smallest SPI a key set may use; smaller ones are reserved
// (RFC 4303, section 2.1).
const MinSPI = 0x100

// Half is one direction of a key set.
type Half struct {
	SPI uint32
	// Key is empty in a Set that describes a file; NewPair and Parse fill it.
	Key xfrm.Key
	// KeyPrint names the key without giving it away.
	KeyPrint xfrm.Fingerprint
}

// Set is a key set as one host sees it: Out is what Host sends with and the In
// of the peer's file.
type Set struct {
	Name       string
	Host, Peer string
	Created    time.Time
	Out, In    Half
}

// Wipe overwrites both keys.
func (s Set) Wipe() {
	s.Out.Key.Wipe()
	s.In.Key.Wipe()
}

// Public returns s without its keys.
func (s Set) Public() Set {
	s.Out.Key, s.In.Key = xfrm.Key{}, xfrm.Key{}
	return s
}

// CheckHost refuses a key set that was made for the other end: its peer is one
// of the names of this host (system-id, host name) and its host is not. Names
// that fit neither end are accepted, since a set may be made with any labels.
func (s Set) CheckHost(own ...string) error {
	if slices.Contains(own, s.Host) || !slices.Contains(own, s.Peer) {
		return nil
	}
	return refuse(CodeHost, "use key set %s: the file was made for %s, this host is %s; install the file from the directory %s",
		s.Name, s.Host, s.Peer, s.Peer)
}

// validName is a regexp of what may stand in an option, a file name and a
// shell's command line alike.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// ValidName tells whether name may name a key set or a host.
func ValidName(name string) bool { return validName.MatchString(name) }

// NewKeysCommand returns the command line that makes new keys for two hosts.
func NewKeysCommand(a, b string) string {
	return fmt.Sprintf("ovs-ipsec-offload keys new --pair %s,%s --out DIR", a, b)
}

// check refuses a set that would not be safe to use; verb says what was to be
// done with it.
func (s Set) check(verb string) error {
	switch {
	case !ValidName(s.Name):
		return refuse(CodeName, "%s key set: its name %q must match %s", verb, s.Name, validName)
	case !ValidName(s.Host) || !ValidName(s.Peer):
		return refuse(CodeHost, "%s key set %s: host and peer must match %s", verb, s.Name, validName)
	case s.Host == s.Peer:
		return refuse(CodeHost, "%s key set %s: host and peer are both %q", verb, s.Name, s.Host)
	case s.Created.IsZero():
		return refuse(CodeFormat, "%s key set %s: created is missing", verb, s.Name)
	case s.Out.SPI < MinSPI || s.In.SPI < MinSPI:
		return refuse(CodeWeak, "%s key set %s: an SPI is below %#x; make a new set", verb, s.Name, MinSPI)
	case s.Out.SPI == s.In.SPI:
		return refuse(CodeWeak, "%s key set %s: the same SPI in both directions; make a new set", verb, s.Name)
	case sameKey(s.Out.Key, s.In.Key):
		return refuse(CodeWeak, "%s key set %s: the same key in both directions; make a new set", verb, s.Name)
	case zeroKey(s.Out.Key) || zeroKey(s.In.Key):
		return refuse(CodeWeak, "%s key set %s: a key is all zeros; make a new set", verb, s.Name)
	}
	return nil
}
