// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var day = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// testConn returns a Conn of this end, which leads or not.
func testConn(lead bool) Conn {
	return Conn{Name: "oio-1", Local: netip.MustParseAddr("10.0.0.1"), Remote: netip.MustParseAddr("10.0.0.2"), Port: 4789,
		Auth: Auth{PSK: NewSecret([]byte("psk"))}, ReqidOut: 0x11, ReqidIn: 0x12, Lead: lead}
}

// ikeSA returns an established IKE SA: "out", "in", "out+" (REKEYING), "out-" (REKEYED).
func ikeSA(id uint32, ours bool, age time.Duration, children ...string) sa {
	s := sa{Conn: "oio-1", ID: id, SPI: fmt.Sprintf("%016x", id), State: "ESTABLISHED", Initiator: ours, Established: age}
	for i, name := range children {
		n := id*100 + uint32(i)
		c := childSA{Name: strings.TrimRight(name, "+-"), ID: n, State: "INSTALLED", SPIIn: n<<8 | 1, SPIOut: n<<8 | 2, ESN: true, Installed: age}
		if strings.HasSuffix(name, "+") {
			c.State = "REKEYING"
		} else if strings.HasSuffix(name, "-") {
			c.State = "REKEYED"
		}
		s.Children = append(s.Children, c)
	}
	return s
}

func connecting(id uint32) sa {
	return sa{Conn: "oio-1", ID: id, SPI: fmt.Sprintf("%016x", id), State: "CONNECTING", Initiator: true, Tasks: []string{"IKE_INIT", "CHILD_CREATE"}}
}

// moment is one step of a story.
type moment struct {
	at     time.Duration // since the story's begin
	change func(*peer)
	sas    []sa
	noSlot bool
	want   string // what is done and the phase afterwards
}

func tellPlan(p *peer, do plan, now time.Time) string {
	var b strings.Builder
	for _, a := range do.do {
		fmt.Fprintf(&b, "%s", a.verb)
		if a.child != "" {
			fmt.Fprintf(&b, " %s", a.child)
		}
		if a.id != 0 {
			fmt.Fprintf(&b, " %d", a.id)
		}
		b.WriteString("; ")
	}
	b.WriteString(p.state.Phase)
	if p.state.Problem != nil {
		fmt.Fprintf(&b, " %s", p.state.Problem.Code)
	}
	if !do.wake.IsZero() {
		fmt.Fprintf(&b, "; again in %v", do.wake.Sub(now))
	}
	if do.starved {
		b.WriteString("; starved")
	}
	return b.String()
}

func TestStep(t *testing.T) {
	s := time.Second
	hear := func(line string) func(*peer) {
		return func(p *peer) { p.hear(readLog(line), day) }
	}
	newPSK := func(p *peer) {
		c := p.conn
		c.Auth.PSK = NewSecret([]byte("other"))
		p.want(c)
	}
	for name, tt := range map[string]struct {
		follows bool
		story   []moment
	}{
		"the end that leads begins": {story: []moment{
			{want: "initiate out; connecting; again in 1s"},
			{at: 1 * s / 2, sas: []sa{connecting(1)}, want: "connecting; again in 500ms"},
			{at: 1 * s, sas: []sa{ikeSA(1, true, 0, "out")}, want: "waiting; again in 15s"},
			{at: 2 * s, sas: []sa{ikeSA(1, true, 1*s, "out", "in")}, want: "up"},
			{at: 9 * s, sas: []sa{ikeSA(1, true, 8*s, "out", "in", "out")}, want: "up; again in 3s"},
		}},
		"the other end waits, and then sets up its own child": {follows: true, story: []moment{
			{want: "waiting; again in 15s"},
			{at: 3 * s, sas: []sa{ikeSA(1, false, 0, "in")}, want: "initiate out; connecting; again in 1s"},
			{at: 4 * s, sas: []sa{ikeSA(1, false, 1*s, "in", "out")}, want: "up"},
		}},
		"the other end takes over": {follows: true, story: []moment{
			{want: "waiting; again in 15s"},
			{at: 15 * s, want: "initiate out; connecting; again in 1s"},
		}},
		"no slot": {story: []moment{{noSlot: true, want: "waiting; starved"}, {at: 1 * s, want: "initiate out; connecting; again in 1s"}}},
		"a peer that is silent": {story: []moment{
			{want: "initiate out; connecting; again in 1s"},
			{at: 2 * s, sas: []sa{connecting(1)}, want: "connecting; again in 13s"},
			{at: 15 * s, sas: []sa{connecting(1)}, want: "terminate 1; failed IKE_NO_ANSWER; again in 1s"},
			{at: 16 * s, want: "initiate out; connecting IKE_NO_ANSWER; again in 1s"},
			{at: 18 * s, want: "failed IKE_NO_ANSWER; again in 2s"},
		}},
		"a peer that refuses": {story: []moment{
			{want: "initiate out; connecting; again in 1s"},
			{at: 1 * s, change: hear("received AUTHENTICATION_FAILED notify error"), want: "failed IKE_AUTH_FAILED; again in 1s"},
		}},
		"a failure without a word": {story: []moment{
			{want: "initiate out; connecting; again in 1s"}, {at: 1 * s, want: "failed IKE_FAILED; again in 1s"}}},
		"a child that the kernel refuses": {follows: true, story: []moment{
			{sas: []sa{ikeSA(1, false, 0, "in")}, want: "initiate out; connecting; again in 1s"},
			{at: 1 * s, change: hear("received netlink error: Device or resource busy (16)"), sas: []sa{ikeSA(1, false, 1*s, "in")}, want: "failed IKE_INSTALL_REFUSED; again in 1s"},
			{at: 2 * s, sas: []sa{ikeSA(1, false, 2*s, "in")}, want: "initiate out; connecting IKE_INSTALL_REFUSED; again in 1s"},
			{at: 3 * s, sas: []sa{ikeSA(1, false, 3*s, "in", "out")}, want: "up"},
		}},
		"what is down for a refusal at the end that waits": {follows: true, story: []moment{
			{change: hear("tried 1 shared key for 'a' - 'b', but MAC mismatched"), want: "waiting IKE_AUTH_FAILED; again in 15s"}}},
		"the peer does not set up its child": {story: []moment{
			{sas: []sa{ikeSA(1, true, 0, "out")}, want: "waiting; again in 15s"},
			{at: 15 * s, sas: []sa{ikeSA(1, true, 15*s, "out")}, want: "initiate in; connecting; again in 1s"},
		}},
		"both began: the end that leads keeps its own": {story: []moment{
			{sas: []sa{ikeSA(2, false, 0, "in"), ikeSA(1, true, 1*s, "out")}, want: "terminate 2; up; again in 1s"}}},
		"a stock peer begins anew what is ended: both stay": {story: []moment{
			{change: func(p *peer) { p.conn.Stock = true }, sas: []sa{ikeSA(2, false, 0, "in"), ikeSA(1, true, 1*s, "out")}, want: "up"},
			{at: 60 * s, sas: []sa{ikeSA(2, false, 60*s, "in"), ikeSA(1, true, 61*s, "out", "in")}, want: "up"},
			{at: 61 * s, sas: []sa{ikeSA(2, false, 61*s, "in"), ikeSA(1, true, 62*s)}, want: "terminate 1; waiting; again in 1s"},
			{at: 62 * s, sas: []sa{ikeSA(2, false, 62*s, "in", "out"), ikeSA(1, true, 63*s, "out", "in")}, want: "terminate 1; up; again in 1s"},
		}},
		"a stock peer: what it has made anew goes": {story: []moment{
			{change: func(p *peer) { p.conn.Stock = true }, sas: []sa{ikeSA(2, false, 0, "in"), ikeSA(1, true, 1*s, "in")}, want: "terminate 1; waiting; again in 1s"},
		}},
		"both began: the other end leaves it to that": {follows: true, story: []moment{
			{sas: []sa{ikeSA(2, true, 0, "out"), ikeSA(1, false, 1*s, "in")}, want: "up; again in 1s"},
			{at: 15 * s, sas: []sa{ikeSA(2, true, 15*s, "out"), ikeSA(1, false, 16*s, "in")}, want: "terminate 2; up; again in 1s"},
		}},
		"the peer's daemon began anew": {story: []moment{
			{sas: []sa{ikeSA(1, false, 5*s, "out", "in"), ikeSA(2, false, 0, "in")}, want: "up; again in 1s"},
			{at: 1 * s, sas: []sa{ikeSA(1, false, 6*s, "out", "in"), ikeSA(2, false, 1*s, "in", "out")}, want: "terminate 1; up; again in 1s"},
			{at: 2 * s, sas: []sa{ikeSA(2, false, 2*s, "in", "out")}, want: "up"},
		}},
		"the peer's daemon began anew and does only its own": {follows: true, story: []moment{
			{sas: []sa{ikeSA(1, false, 90*s, "out", "in"), ikeSA(2, false, 0, "in")}, want: "up; again in 1s"},
			{at: 3 * s, sas: []sa{ikeSA(1, false, 93*s, "out", "in"), ikeSA(2, false, 3*s, "in")}, want: "terminate 1; up; again in 1s"},
			{at: 4 * s, sas: []sa{ikeSA(2, false, 4*s, "in")}, want: "initiate out; connecting; again in 1s"},
		}},
		"this end's daemon began anew": {story: []moment{
			{sas: []sa{ikeSA(1, true, 9*s, "out", "in")}, want: "up"},
			{at: 1 * s, change: func(p *peer) { p.lost(day.Add(1 * s)); p.hasLoaded() }, want: "initiate out; connecting; again in 1s"},
			{at: 2 * s, sas: []sa{ikeSA(1, true, 0, "out")}, want: "initiate in; connecting; again in 1s"},
		}},
		"a child that was there twice": {story: []moment{
			{sas: []sa{ikeSA(1, true, 9*s, "out", "in", "out")}, want: "up; again in 3s"},
			{at: 3 * s, sas: []sa{ikeSA(1, true, 12*s, "out", "in", "out")}, want: "terminate-child out 100; up"},
		}},
		"a rekey is no double": {story: []moment{
			{sas: []sa{ikeSA(1, true, 9*s, "out+", "in", "out")}, want: "up"},
			{at: 9 * s, sas: []sa{ikeSA(1, true, 18*s, "out-", "in", "out")}, want: "up"},
		}},
		"another psk": {story: []moment{
			{sas: []sa{ikeSA(1, true, 9*s, "out", "in")}, want: "up"},
			{at: 1 * s, change: newPSK, sas: []sa{ikeSA(1, true, 10*s, "out", "in")}, want: "load; loading"},
			{at: 1 * s, change: (*peer).hasLoaded, sas: []sa{ikeSA(1, true, 10*s, "out", "in")}, want: "initiate out; up; again in 1s"},
			{at: 2 * s, sas: []sa{ikeSA(1, true, 11*s, "out", "in"), ikeSA(2, true, 0, "out")}, want: "initiate in; up; again in 1s"},
			{at: 3 * s, sas: []sa{ikeSA(1, true, 12*s, "out", "in"), ikeSA(2, true, 1*s, "out", "in")}, want: "terminate 1; up"},
		}},
		"another psk that the peer does not have yet": {story: []moment{
			{sas: []sa{ikeSA(1, true, 9*s, "out", "in")}, want: "up"},
			{at: 1 * s, change: newPSK, sas: []sa{ikeSA(1, true, 10*s, "out", "in")}, want: "load; loading"},
			{at: 1 * s, change: (*peer).hasLoaded, sas: []sa{ikeSA(1, true, 10*s, "out", "in")}, want: "initiate out; up; again in 1s"},
			{at: 2 * s, change: hear("received AUTHENTICATION_FAILED notify error"), sas: []sa{ikeSA(1, true, 11*s, "out", "in")}, want: "up IKE_AUTH_FAILED; again in 1s"},
		}},
		"another address": {story: []moment{
			{sas: []sa{ikeSA(1, true, 9*s, "out", "in")}, want: "up"},
			{at: 1 * s, change: func(p *peer) {
				c := p.conn
				c.Remote = netip.MustParseAddr("10.0.0.3")
				p.want(c)
			}, sas: []sa{ikeSA(1, true, 10*s, "out", "in")}, want: "terminate 1; load; loading"},
		}},
		"SAs that are gone from the kernel": {follows: true, story: []moment{
			{sas: []sa{ikeSA(1, false, 9*s, "out", "in")}, want: "up"},
			{at: 1 * s, change: func(p *peer) { p.ask(true) }, sas: []sa{ikeSA(1, false, 10*s, "out", "in")}, want: "terminate 1; up; again in 1s"},
			{at: 2 * s, want: "initiate out; connecting; again in 1s"},
		}},
		"a rekey that is asked for": {story: []moment{
			{change: func(p *peer) { p.ask(false) }, want: "initiate out; connecting; again in 1s"},
			{at: 1 * s, sas: []sa{ikeSA(1, true, 0, "out", "in")}, want: "rekey out 100; up"},
			{at: 2 * s, sas: []sa{ikeSA(1, true, 1*s, "out", "in")}, want: "up"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{TakeOver: 15 * s}.WithDefaults()
			p := newPeer(testConn(!tt.follows), day, o, 0)
			p.hasLoaded()
			for i, m := range tt.story {
				if m.change != nil {
					m.change(p)
				}
				now := day.Add(m.at)
				do := p.step(look{now: now, sas: m.sas, slot: !m.noSlot, jitter: 1, o: o})
				if diff := cmp.Diff(m.want, tellPlan(p, do, now)); diff != "" {
					t.Fatalf("moment %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func TestNoESNIsTold(t *testing.T) {
	p := newPeer(testConn(true), day, Options{}.WithDefaults(), 0)
	p.hasLoaded()
	up := ikeSA(1, true, 0, "out", "in")
	up.Children[1].ESN = false
	p.step(look{now: day, sas: []sa{up}, o: Options{}.WithDefaults()})
	if p.state.Phase != Up || p.state.Problem == nil || p.state.Problem.Code != CodeNoESN {
		t.Errorf("state %+v", p.state)
	}
}
