// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// sa is an IKE SA as list-sas tells it.
type sa struct {
	Conn        string
	ID          uint32
	SPI         string // both ends' in one: the same at both ends, unlike ID
	State       string // charon's word, such as ESTABLISHED
	Initiator   bool
	Established time.Duration // ago
	Tasks       []string      // what charon is at or has still to do
	Children    []childSA
}

// childSA is a child SA as list-sas tells it.
type childSA struct {
	Name          string // Out, In, Both or charon's
	ID            uint32
	State         string // charon's word, such as INSTALLED
	SPIIn, SPIOut uint32
	ESN           bool
	Installed     time.Duration // ago
	RekeyIn       time.Duration
	Narrow        bool // it is for some UDP ports only
}

// readSAs returns the IKE SAs in one list-sa event, which are one.
func readSAs(m vici.Message) []sa {
	var all []sa
	for _, e := range m {
		if e.Kind == vici.IsSection {
			all = append(all, readSA(e.Name, e.Section))
		}
	}
	return all
}

func readSA(name string, m vici.Message) sa {
	s := sa{
		Conn:        name,
		ID:          number(m.Get("uniqueid"), 10),
		SPI:         m.Get("initiator-spi") + m.Get("responder-spi"),
		State:       m.Get("state"),
		Initiator:   m.Get("initiator") == "yes",
		Established: ago(m.Get("established")),
		Tasks:       append(m.Items("tasks-queued"), append(m.Items("tasks-active"), m.Items("tasks-passive")...)...),
	}
	for _, e := range m.Sub("child-sas") {
		s.Children = append(s.Children, readChild(name, e.Section))
	}
	slices.SortFunc(s.Children, byChildID)
	return s
}

func readChild(conn string, m vici.Message) childSA {
	return childSA{
		Name:      strings.TrimPrefix(m.Get("name"), conn+"-"),
		ID:        number(m.Get("uniqueid"), 10),
		State:     m.Get("state"),
		SPIIn:     number(m.Get("spi-in"), 16),
		SPIOut:    number(m.Get("spi-out"), 16),
		ESN:       m.Get("esn") == "1",
		Installed: ago(m.Get("install-time")),
		RekeyIn:   ago(m.Get("rekey-time")),
		Narrow:    slices.ContainsFunc(append(m.Items("local-ts"), m.Items("remote-ts")...), namesPort),
	}
}

// byChildID orders the children of an IKE SA: the youngest last.
func byChildID(a, b childSA) int { return cmp.Compare(a.ID, b.ID) }

// namesPort tells whether a traffic selector, as charon writes it, has a port:
// "10.0.0.1/32[udp/4789]".
func namesPort(ts string) bool { return strings.Contains(ts, "[udp/") }

// number reads a number of the daemon's; 0 stands for what is none.
func number(s string, base int) uint32 {
	n, _ := strconv.ParseUint(s, base, 32)
	return uint32(n)
}

func ago(s string) time.Duration {
	n, _ := strconv.ParseInt(s, 10, 32)
	return time.Duration(n) * time.Second
}

// with returns later, which tells of some children only, with the other children of s.
func (s sa) with(later sa) sa {
	news := later.Children
	later.Children = slices.DeleteFunc(slices.Clone(s.Children), func(c childSA) bool {
		return slices.ContainsFunc(news, func(n childSA) bool { return n.ID == c.ID })
	})
	later.Children = append(later.Children, news...)
	slices.SortFunc(later.Children, byChildID)
	return later
}

// live tells whether children can be set up in the IKE SA.
func (s sa) live() bool { return s.State == "ESTABLISHED" || s.State == "REKEYING" }

// coming tells whether the IKE SA is being set up.
func (s sa) coming() bool { return s.State == "CREATED" || s.State == "CONNECTING" }

// busy tells whether charon is to set up a child.
func (s sa) busy() bool { return slices.Contains(s.Tasks, "CHILD_CREATE") }

// has returns the children of a name that carry packets and stay.
func (s sa) has(name string) []childSA {
	var found []childSA
	for _, c := range s.Children {
		if c.Name == name && c.stays() && !(name == Both && c.Narrow) {
			found = append(found, c)
		}
	}
	return found
}

// complete tells whether the IKE SA has all children of c.
func (s sa) complete(c Conn) bool {
	return !slices.ContainsFunc(c.Children(), func(name string) bool { return len(s.has(name)) == 0 })
}

func (c childSA) stays() bool { return c.State == "INSTALLED" || c.State == "REKEYING" }

// inKernel tells whether the kernel has the child's SAs, or had them just now.
func (c childSA) inKernel() bool {
	return c.SPIIn != 0 && (c.stays() || c.State == "REKEYED" || c.State == "DELETING")
}

// version is what the daemon says of itself.
type version struct {
	Daemon, Version string
}

func readVersion(m vici.Message) version {
	return version{Daemon: m.Get("daemon"), Version: m.Get("version")}
}

// String returns such as "strongSwan 6.0.1".
func (v version) String() string { return "strongSwan " + v.Version }

// offloads tells whether the version knows hw_offload=packet, which came with
// 5.9.10. A version that cannot be read is taken to be newer.
func (v version) offloads() bool {
	var have []int
	for part := range strings.SplitSeq(v.Version, ".") {
		n, err := strconv.Atoi(leadingDigits(part))
		if err != nil {
			return true
		}
		have = append(have, n)
	}
	return slices.Compare(have, []int{5, 9, 10}) >= 0
}

func leadingDigits(s string) string {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		return s
	}
	return s[:end]
}
