// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"bufio"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ovs-ipsec-offload/plugin/ike"
)

// sa is one state of pluto's: an IKE SA or a child SA.
type sa struct {
	id            uint64
	conn          string // of ours
	child         string // ike.Out or ike.In: which half it belongs to
	ike           bool   // an IKE SA
	up            bool   // established
	tries         bool   // an IKE SA that this end is about to set up
	newest        bool   // the one of its kind that its connection uses
	spiIn, spiOut uint32
	installed     time.Time
	rekeyIn       time.Duration
}

// The lines of showstates that begin a state and give its SPIs, and of trafficstatus.
// pluto prints them for people; in the source they are in programs/pluto/show.c,
// ipsec_doi.c and whack_trafficstatus.c.
var (
	stateLine   = regexp.MustCompile(`^#(\d+): "([^"]+)"(?:\[\d+\])?[^ ]* ([A-Z0-9_]+) \(`)
	initiates   = regexp.MustCompile(`_I\d?$`)                                                                    // IKE_SA_INIT_I, IKE_AUTH_I and so on
	spiLine     = regexp.MustCompile(`^#(\d+): "[^"]+".*? esp[.:]([0-9a-f]{1,8})@\S+ esp[.:]([0-9a-f]{1,8})@\S+`) // a colon with IPv6
	rekeyTime   = regexp.MustCompile(`; REKEY in (-?\d+)s;`)
	trafficLine = regexp.MustCompile(`^#(\d+): .*\badd_time=(\d+),`)
	versionLine = regexp.MustCompile(`\bpluto_version=(\S+?),`)
	connLine    = regexp.MustCompile(`^"([^"]+)": `)
)

// readStates returns our states from what showstates and trafficstatus print.
// Whatever is not understood is passed over.
func readStates(states, traffic string) map[uint64]*sa {
	found := map[uint64]*sa{}
	for line := range lines(states) {
		if m := stateLine.FindStringSubmatch(line); m != nil {
			if s := newState(m, line); s != nil {
				found[s.id] = s
			}
		} else if m := spiLine.FindStringSubmatch(line); m != nil {
			if s := found[number(m[1])]; s != nil {
				s.spiOut, s.spiIn = spi(m[2]), spi(m[3])
			}
		}
	}
	for line := range lines(traffic) {
		if m := trafficLine.FindStringSubmatch(line); m != nil {
			if s := found[number(m[1])]; s != nil {
				s.installed = time.Unix(int64(number(m[2])&(1<<40-1)), 0)
			}
		}
	}
	return found
}

func newState(m []string, line string) *sa {
	name, child, ours := split(m[2])
	if !ours {
		return nil
	}
	s := &sa{id: number(m[1]), conn: name, child: child}
	s.ike = !strings.Contains(m[3], "CHILD")
	s.up = strings.HasPrefix(m[3], "ESTABLISHED_")
	s.tries = s.ike && initiates.MatchString(m[3])
	s.newest = strings.Contains(line, "; newest;")
	if t := rekeyTime.FindStringSubmatch(line); t != nil {
		s.rekeyIn = time.Duration(number(t[1])) * time.Second
	}
	return s
}

// readConns returns the halves of ours that status lists.
func readConns(text string) map[string]bool {
	found := map[string]bool{}
	for line := range lines(text) {
		if m := connLine.FindStringSubmatch(line); m != nil {
			if _, _, ours := split(m[1]); ours {
				found[m[1]] = true
			}
		}
	}
	return found
}

// readVersion returns pluto's version from status, "" if it is not there.
func readVersion(text string) string {
	if m := versionLine.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// offloads tells whether a version knows nic-offload=packet: 5.0 and later.
func offloads(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 5
}

// reason tells from what pluto prints of an attempt why it failed, nil if it does not say.
func reason(text string) *ike.Problem {
	text = strings.ToLower(text)
	for _, r := range reasons {
		if strings.Contains(text, r.mark) {
			return &ike.Problem{Code: r.code, Text: r.text}
		}
	}
	return nil
}

// reasons are in the order in which they count: the first is nearest to the cause.
var reasons = []struct{ mark, code, text string }{
	{"netlink response for add sa", ike.CodeInstall, "the kernel or the NIC did not take the SA: see pluto's log for its reason"},
	{"esp-hw-offload possibly not available", ike.CodeInstall, "the kernel or the NIC did not take the SA: see pluto's log for its reason"},
	{"authentication_failed", ike.CodeAuth, "the peer does not accept who this host says it is: compare psk on both"},
	{"authentication failed", ike.CodeAuth, "the peer is not who it should be: compare psk on both"},
	{"no_proposal_chosen", ike.CodeNoProposal, "no cipher in common"},
	{"ts_unacceptable", ike.CodeTS, "the peer does not want this traffic encrypted"},
	{"no response", ike.CodeNoAnswer, noAnswer},
	{"retransmission", ike.CodeNoAnswer, noAnswer},
}

const noAnswer = "no answer: is the peer up, does it run IKE, and does UDP 500 get through?"

func lines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // what is below 0 is over, and counts as 0
	return n
}

func spi(s string) uint32 {
	n, _ := strconv.ParseUint(s, 16, 32)
	return uint32(n)
}
