// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ovs-ipsec-offload/plugin/ike/vici"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a Runner with its daemon, in a bubble of testing/synctest.
type rig struct {
	*testing.T
	*fakeCharon
	runner *Runner
	log    *lockedBuffer
	news   *atomic.Int32 // calls of Changed
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// inRig runs a story with a Runner that runs.
func inRig(t *testing.T, o Options, story func(rig)) {
	synctest.Test(t, func(t *testing.T) {
		g := rig{T: t, fakeCharon: newFakeCharon(), log: &lockedBuffer{}, news: &atomic.Int32{}}
		g.runner = New(Config{Dial: g.Dial, Log: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Changed: func() { g.news.Add(1) }, Jitter: func() float64 { return 0 }, Options: o})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.runner.Run(ctx) }()
		story(g)
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("Run ended with %v", err)
		}
		g.Stop()
	})
}

// after returns the state when d has passed and all is quiet.
func (g rig) after(d time.Duration) State {
	time.Sleep(d)
	synctest.Wait()
	return g.runner.State()
}

func (g rig) phase(s State, conn, phase, code string) {
	g.Helper()
	c, got := s.Conns[conn], ""
	if c.Problem != nil {
		got = c.Problem.Code
	}
	if c.Phase != phase || got != code {
		g.Errorf("%s is %q with problem %q, want %q with %q", conn, c.Phase, got, phase, code)
	}
}

func (g rig) told(want ...string) {
	g.Helper()
	if diff := cmp.Diff(want, g.Commands()); diff != "" {
		g.Errorf("commands (-want +got):\n%s", diff)
	}
}

// up brings oio-1 up, forgets what the daemon was told for it, and returns the state.
func (g rig) up() State {
	g.Helper()
	g.runner.Want([]Conn{peerConn(1)})
	g.after(time.Millisecond)
	g.Peers()
	s := g.after(time.Millisecond)
	g.phase(s, "oio-1", Up, "")
	g.Commands()
	return s
}

// refuse has the daemon refuse a command from now on.
func (g rig) refuse(command, reason string) {
	g.Do(func() {
		g.Refuse = func(c string, _ vici.Message) string {
			if c == command {
				return reason
			}
			return ""
		}
	})
}

// wantHeld wants n Conns, whose IKE SAs stay CONNECTING, and returns them.
func (g rig) wantHeld(n int) []Conn {
	g.Do(func() { g.Hold = true })
	cs := make([]Conn, n)
	for i := range cs {
		cs[i] = peerConn(i)
	}
	g.runner.Want(cs)
	return cs
}

// come has n of the IKE SAs come up that are CONNECTING.
func (g rig) come(n int) {
	g.Do(func() {
		for _, s := range g.sas {
			if s.State == "CONNECTING" && n > 0 {
				g.establish(s)
				n--
			}
		}
	})
}

// peerConn returns the n-th Conn that this end leads.
func peerConn(n int) Conn {
	c := testConn(true)
	c.Name = fmt.Sprintf("oio-%d", n)
	c.Remote = netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
	c.Auth.PSK = NewSecret(fmt.Appendf(nil, "swordfish-%d", n))
	return c
}

func TestAddingOneTouchesNoOther(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.runner.Want([]Conn{peerConn(1)})
		g.phase(g.after(time.Millisecond), "oio-1", Waiting, "")
		g.Peers()
		s := g.after(time.Millisecond)
		g.phase(s, "oio-1", Up, "")
		g.told("load-shared oio-1", "load-conn oio-1", "initiate oio-1-out")
		if s.Daemon != "strongSwan 6.0.1" || s.Problem != nil {
			g.Errorf("daemon %q, problem %v", s.Daemon, s.Problem)
		}

		g.runner.Want([]Conn{peerConn(2), peerConn(1)})
		g.after(time.Millisecond)
		g.Peers()
		now := g.after(time.Millisecond)
		g.phase(now, "oio-2", Up, "")
		g.told("load-shared oio-2", "load-conn oio-2", "initiate oio-2-out")
		if s.Conns["oio-1"].news(now.Conns["oio-1"]) {
			g.Errorf("the first changed from %+v to %+v", s.Conns["oio-1"], now.Conns["oio-1"])
		}

		g.runner.Want([]Conn{peerConn(1), peerConn(2)})
		g.after(time.Minute)
		g.told()
		g.Do(func() {
			if want := map[string]string{"oio-1": "swordfish-1", "oio-2": "swordfish-2"}; !cmp.Equal(want, g.shared) {
				g.Errorf("secrets %v", g.shared)
			}
		})
	})
}

func TestWhatNobodyWantsGoes(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.Do(func() {
			for _, name := range []string{"oio-old", "somebody-else's"} {
				g.conns[name], g.shared[name] = nil, "x"
				g.sas = append(g.sas, &sa{Conn: name, ID: uint32(len(g.sas) + 1), State: "ESTABLISHED"})
			}
		})
		g.after(time.Minute)
		g.told() // nobody has said what is wanted
		g.runner.Want(nil)
		g.after(20 * time.Second)
		g.told("unload-conn oio-old", "unload-shared oio-old", "terminate 1")
		g.Do(func() {
			if len(g.sas) != 1 || len(g.conns) != 1 || len(g.shared) != 1 {
				g.Error("what is somebody else's went too")
			}
		})
	})
}

func TestDaemonIsKilled(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.up()
		g.Stop()
		s := g.after(time.Hour)
		g.phase(s, "oio-1", Loading, "")
		if s.Daemon != "" || s.Problem == nil || s.Problem.Code != CodeDown || len(s.Conns["oio-1"].Children) > 0 {
			g.Errorf("state %+v", s)
		}
		g.Start()
		g.phase(g.after(2*time.Second), "oio-1", Up, "")
		g.told("load-shared oio-1", "load-conn oio-1", "initiate oio-1-out", "initiate oio-1-in")
	})
}

func TestSomebodyElseUnloads(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.up()
		g.Do(func() { delete(g.shared, "oio-1") })
		g.phase(g.after(20*time.Second), "oio-1", Up, "")
		g.told("load-shared oio-1", "load-conn oio-1")
	})
}

// What somebody has unloaded is noticed when charon is told to initiate it, long before
// the next audit.
func TestInitiateIsRefused(t *testing.T) {
	inRig(t, Options{Audit: time.Hour}, func(g rig) {
		g.refuse("initiate", "CHILD_SA config 'oio-1-out' not found")
		g.runner.Want([]Conn{peerConn(1)})
		g.after(time.Millisecond)
		g.told("load-shared oio-1", "load-conn oio-1")
		g.Do(func() { g.Refuse = nil })
		g.after(2 * young)
		g.told("load-shared oio-1", "load-conn oio-1", "initiate oio-1-out")
	})
}

// swanctl --load-creds --clear takes private keys away, too.
func TestPrivateKeyIsTakenAway(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		c := peerConn(1)
		c.Auth = Auth{Cert: []byte("certificate"), RemoteCert: []byte("peer's"), Key: NewSecret([]byte("key"))}
		g.runner.Want([]Conn{c})
		g.after(time.Millisecond)
		g.Peers()
		g.after(time.Millisecond)
		g.told("load-key id3", "load-conn oio-1", "initiate oio-1-out")
		g.after(time.Minute)
		g.told()
		g.Do(func() { clear(g.keys) })
		g.phase(g.after(20*time.Second), "oio-1", Up, "")
		g.told("load-key id3", "load-conn oio-1")
	})
}

func TestDaemonDoesNotAnswer(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.Do(func() { g.Mute = map[string]bool{"list-sas": true} })
		g.runner.Want([]Conn{peerConn(1)})
		if s := g.after(time.Minute); s.Problem == nil || s.Problem.Code != CodeStuck {
			g.Errorf("problem %v, want %s", s.Problem, CodeStuck)
		}
		g.Do(func() { g.Mute = nil })
		if s := g.after(10 * time.Second); s.Problem != nil {
			g.Errorf("problem %v, want none", s.Problem)
		}
	})
}

// A daemon that was busy for a while has what it had: it is not loaded anew, which with
// many tunnels would keep it busy.
func TestDaemonIsBusyForAWhile(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.runner.Want([]Conn{peerConn(1)})
		g.after(time.Millisecond)
		g.Peers()
		g.after(time.Millisecond)
		g.told("load-shared oio-1", "load-conn oio-1", "initiate oio-1-out")
		g.Do(func() { g.Mute = map[string]bool{"list-sas": true} })
		if s := g.after(time.Minute); s.Problem == nil {
			g.Error("nobody noticed")
		}
		g.Do(func() { g.Mute = nil })
		g.phase(g.after(10*time.Second), "oio-1", Up, "")
		g.told()
	})
}

// While many come up their log is left alone, and it is listened to again when nothing
// comes up any more, or few do.
func TestHearsLessWhileManyComeUp(t *testing.T) {
	inRig(t, Options{Parallel: 4}, func(g rig) {
		// hears tells whether it listens to calmEvents, to all or to none.
		hears := func() bool {
			if g.Hears("log") != g.Hears("ike-updown") {
				t.Error("it listens to one of them only")
			}
			return g.Hears("log") == 1
		}
		if g.after(time.Second); hears() {
			g.Error("it listens before anything is wanted")
		}
		cs := g.wantHeld(20)
		if g.after(time.Second); !hears() {
			g.Error("it does not listen while nothing has come up")
		}
		come := func(n int) {
			g.come(n)
			g.Peers()
			g.after(time.Second / 2)
		}
		if come(4); hears() {
			g.Error("it listens while 16 are coming up")
		}
		if g.after(manyRest); !hears() {
			g.Error("it does not listen when nothing comes up")
		}
		come(4)
		if come(4); !hears() {
			g.Error("it does not listen while few are coming up")
		}
		come(4)
		come(4)
		for n := range cs {
			g.phase(g.runner.State(), cs[n].Name, Up, "")
		}
	})
}

// Nothing is audited while many come up, but for what somebody wants no more, and at last.
func TestAuditWhileManyComeUp(t *testing.T) {
	inRig(t, Options{Parallel: 300, Attempt: time.Hour}, func(g rig) {
		cs := g.wantHeld(300)
		// audits tells how often all was audited since it was last asked.
		audits := func() (n int) {
			g.Do(func() { n, g.audits = g.audits, 0 })
			return n
		}
		// come has one come up each half of a second.
		come := func(n int) int {
			for range n {
				g.come(1)
				g.Peers()
				g.after(time.Second / 2)
			}
			return audits()
		}
		g.after(time.Second)
		audits()
		if n := come(60); n != 0 {
			g.Errorf("%d audits in 30 s of it", n)
		}
		g.runner.Want(cs[:299])
		if n := come(2); n != 1 {
			g.Errorf("%d audits when one was wanted no more, want 1", n)
		}
		if n := come(120); n != 0 {
			g.Errorf("%d audits in 60 s of it", n)
		}
		if n := come(20); n != 1 {
			g.Errorf("%d audits in the 10 s after that, want 1", n)
		}
		if g.after(11 * time.Second); audits() == 0 {
			g.Error("no audit when nothing comes up")
		}
	})
}

// charon does not take the secret: what it has of the connection stays.
func TestRefusedSecret(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.refuse("load-shared", "no")
		g.runner.Want([]Conn{peerConn(1)})
		g.phase(g.after(time.Second/4), "oio-1", Failed, CodeRefused)
		g.Do(func() {
			if len(g.conns) != 0 {
				g.Errorf("loaded all the same: %v", g.conns)
			}
		})
	})
}

// What has few left coming up is followed by listening again at once.
func TestHearsAtOnce(t *testing.T) {
	inRig(t, Options{Parallel: 20}, func(g rig) {
		g.wantHeld(20)
		g.after(100 * time.Millisecond)
		come := func(n int) {
			g.Do(func() {
				for _, s := range g.sas {
					if s.State == "CONNECTING" && n > 0 {
						g.establish(s)
						g.addChild(s, In)
						n--
					}
				}
			})
			synctest.Wait()
		}
		if come(1); g.Hears("log") != 0 {
			g.Fatal("it listens while many come up")
		}
		if come(11); g.Hears("log") != 1 {
			g.Error("it does not listen while few are coming up")
		}
	})
}

// queue is a pass with loaded Conns and one slot, which a has. The others have to wait for it.
func queue(a string, others ...string) *pass {
	r := New(Config{Jitter: func() float64 { return 0 }, Options: Options{Parallel: 1}})
	p := newPass(r, daemon{}, version{})
	for _, name := range append([]string{a}, others...) {
		c := peerConn(1)
		c.Name = name
		r.peers[name] = newPeer(c, time.Now(), r.cfg.Options, 0)
		r.peers[name].hasLoaded()
		p.decide(p.queued([]string{name}))
	}
	return p
}

func TestSlotGoesToWhoWaitsLongest(t *testing.T) {
	for _, tt := range []struct {
		name string
		next []string // to be stepped when the slot is free
		want string   // has it then; "" if nobody stepped may have it
		fail string   // has failed before
	}{
		{"all are stepped, as by an audit", []string{"oio-b", "oio-c", "oio-z"}, "oio-z", ""},
		{"somebody else comes due", []string{"oio-c"}, "", ""},
		{"who waits longest failed before", []string{"oio-b", "oio-z"}, "oio-b", "oio-z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := queue("oio-a", "oio-z", "oio-b", "oio-c")
				if tt.fail != "" {
					p.starved, p.r.peers[tt.fail].failures = nil, 1
					for _, name := range []string{"oio-z", "oio-b", "oio-c"} {
						p.decide(p.queued([]string{name}))
					}
				}
				delete(p.r.peers, "oio-a")
				p.decide(p.queued(tt.next))
				for name, q := range p.r.peers {
					if q.underWay() != (name == tt.want) {
						t.Errorf("%s under way: %v; %v wait", name, q.underWay(), p.starved)
					}
				}
			})
		})
	}
}

// Peers that never answer take turns with the others.
func TestDeadPeersLeaveSlots(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.Do(func() { g.Hold = true })
		const dead, all = 60, 100
		cs := make([]Conn, all)
		alive := map[string]bool{}
		for n := range cs {
			cs[n] = peerConn(n)
			cs[n].Name = fmt.Sprintf("oio-%03d", n)
			alive[cs[n].Name] = n >= dead // the last by name
		}
		g.runner.Want(cs)
		var s State
		for range 120 {
			g.Do(func() {
				for _, s := range g.sas {
					if s.State == "CONNECTING" && alive[s.Conn] {
						g.establish(s)
					}
				}
			})
			g.Peers()
			s = g.after(time.Second)
		}
		for _, c := range cs[dead:] {
			g.phase(s, c.Name, Up, "")
		}
	})
}

func TestOldDaemon(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.Stop() // the Runner may have met it already
		g.Do(func() { g.Version = "5.9.8" })
		g.Start()
		g.runner.Want([]Conn{peerConn(1)})
		if s := g.after(10 * time.Second); s.Problem == nil || s.Problem.Code != CodeOld || !strings.Contains(s.Problem.Text, "5.9.10") {
			g.Errorf("problem %v, want %s", s.Problem, CodeOld)
		}
		g.told()
	})
}

func TestOneBadConnSpoilsNoOther(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		bad := func(command string, m vici.Message) string {
			if command == "load-conn" && m[0].Name == "oio-1" {
				return "parsing certificate failed"
			}
			return ""
		}
		g.Do(func() { g.Refuse = bad })
		g.runner.Want([]Conn{peerConn(1), peerConn(2)})
		g.after(time.Second / 4)
		g.Peers()
		s := g.after(time.Second / 4)
		g.phase(s, "oio-1", Failed, CodeRefused)
		g.phase(s, "oio-2", Up, "")
		g.Do(func() { g.Refuse = nil })
		g.after(40 * time.Second)
		g.Peers()
		g.phase(g.after(time.Second), "oio-1", Up, "")
	})
}

func TestAtMostSoManyAtOnce(t *testing.T) {
	inRig(t, Options{Parallel: 4}, func(g rig) {
		cs := g.wantHeld(20)
		for done := 0; done < len(cs); {
			g.after(time.Second / 2)
			g.Do(func() {
				held := slices.DeleteFunc(slices.Clone(g.sas), func(s *sa) bool { return s.State != "CONNECTING" })
				if want := min(4, len(cs)-done); len(held) != want {
					g.Fatalf("%d under way after %d were done, want %d", len(held), done, want)
				}
				for _, s := range held {
					g.establish(s)
				}
				done += len(held)
			})
			g.Peers()
		}
		s := g.after(time.Second)
		for _, c := range cs {
			g.phase(s, c.Name, Up, "")
		}
	})
}

func TestSlotsAreGivenOnWhileOthersAreLoaded(t *testing.T) {
	inRig(t, Options{Parallel: 1}, func(g rig) {
		var cs []Conn
		// Many, since an event may be late for a run or two.
		for n := range 12 * atOnce {
			cs = append(cs, peerConn(n))
		}
		g.runner.Want(cs)
		g.after(time.Second / 2)
		initiated, loaded := 0, 0
		for _, c := range g.Commands() {
			switch {
			case strings.HasPrefix(c, "initiate"):
				initiated++
			case strings.HasPrefix(c, "load-conn"):
				loaded++
			}
			if initiated == 2 && loaded == len(cs) {
				g.Fatal("the second waited until all were loaded")
			}
			if initiated == 2 {
				break
			}
		}
		if initiated < 2 {
			g.Errorf("%d initiated, %d loaded", initiated, loaded)
		}
	})
}

// charon goes over all IKE SAs for a list: what comes up is believed without.
func TestWhatComesUpIsNotListed(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		var cs []Conn
		for n := range 3 * atOnce {
			cs = append(cs, peerConn(n))
		}
		g.runner.Want(cs)
		for range 4 {
			g.after(10 * time.Millisecond)
			g.Peers()
		}
		s := g.after(10 * time.Millisecond)
		for _, c := range cs {
			g.phase(s, c.Name, Up, "")
		}
		g.Do(func() {
			if g.lists != 1 {
				g.Errorf("%d lists, want the first one only", g.lists)
			}
			g.sas[0].Children[0].State, g.lists = "DELETED", 0
		})
		g.phase(g.after(20*time.Second), g.sas[0].Conn, Up, "") // the audit saw it
		g.Do(func() {
			if len(g.sas[0].Children) != 3 {
				g.Error("the child that went without a word was not set up anew")
			}
		})
	})
}

// A peer that was started anew has set up an IKE SA beside the one that this end has still.
func TestASecondIKESAIsListed(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.up()
		g.Do(func() {
			g.lists = 0
			g.serial++
			s := &sa{Conn: "oio-1", ID: g.serial, SPI: "second"}
			g.sas = append(g.sas, s)
			g.establish(s)
		})
		g.after(time.Millisecond)
		g.Do(func() {
			if g.lists == 0 {
				g.Error("nothing was listed")
			}
		})
		g.told("terminate 4")
	})
}

// What is known of a Conn from when it was wanted before is gone by then.
func TestRemovedAndAddedAgain(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.up()
		g.runner.Want(nil)
		g.after(100 * time.Millisecond)
		g.Commands()
		g.runner.Want([]Conn{peerConn(1)})
		g.after(3 * time.Second)
		g.told("load-shared oio-1", "load-conn oio-1", "initiate oio-1-out")
	})
}

// A Conn that is added while the daemon is stuck does not make it well.
func TestAddedWhileTheDaemonIsStuck(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.runner.Want([]Conn{peerConn(1)})
		g.after(time.Second)
		g.Peers()
		g.after(time.Second)
		g.Do(func() { g.Mute = map[string]bool{"list-sas": true} })
		g.after(time.Minute)
		g.runner.Want([]Conn{peerConn(1), peerConn(2)})
		for range 200 {
			if s := g.after(100 * time.Millisecond); s.Problem == nil {
				t.Fatal("nothing is said of a daemon that is stuck all the time")
			}
		}
	})
}

// charon tells of an IKE SA before it is at its child, which may fail without a known word.
func TestChildFailsSilentlyAfterTheIKESA(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.Do(func() { g.Hold = true })
		g.runner.Want([]Conn{peerConn(1)})
		g.after(2 * time.Second)
		g.Commands()
		g.Do(func() {
			s := g.sas[0]
			s.State = "ESTABLISHED"
			g.raise("ike-updown", append(vici.Message{vici.Text("up", "yes")}, showSA(*s)...))
			s.Tasks = nil
		})
		g.after(3 * time.Second)
		g.told("initiate oio-1-out")
	})
}

func TestReasonFromTheLog(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.Do(func() { g.Hold = true })
		g.runner.Want([]Conn{peerConn(1)})
		g.after(time.Second / 2)
		g.Do(func() {
			g.raise("log", vici.Message{vici.Text("ikesa-name", "oio-1"), vici.Text("msg", "received TS_UNACCEPTABLE notify, no CHILD_SA built")})
			g.sas = nil
		})
		g.phase(g.after(time.Second), "oio-1", Connecting, CodeTS)
	})
}

func TestNoSecretIsShown(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		g.runner.Want([]Conn{peerConn(1), peerConn(2)})
		g.after(time.Minute)
		g.Stop()
		state, err := json.Marshal(g.after(time.Minute))
		if err != nil {
			g.Fatal(err)
		}
		for _, text := range []string{g.log.String(), string(state), fmt.Sprintf("%+v %#v", g.runner.State(), g.runner)} {
			if strings.Contains(text, "swordfish") {
				g.Errorf("a psk is shown in %s", text)
			}
		}
		if !strings.Contains(g.log.String(), "conn=oio-1") || g.news.Load() == 0 {
			g.Error("nothing was logged, or told as changed")
		}
	})
}

func TestANewRunnerFindsEverythingAsItWas(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		was := g.up()

		second := New(Config{Dial: g.Dial, Jitter: func() float64 { return 0 }})
		ctx, cancel := context.WithCancel(g.Context())
		done := make(chan error, 1)
		go func() { done <- second.Run(ctx) }()
		g.after(time.Minute)
		g.told()
		second.Want([]Conn{peerConn(1)})
		g.after(time.Minute)
		g.told("load-shared oio-1", "load-conn oio-1")
		if now := second.State(); !cmp.Equal(spisAt(was), spisAt(now)) {
			g.Errorf("SPIs %v, were %v", spisAt(now), spisAt(was))
		}
		cancel()
		<-done
	})
}

func spisAt(s State) (spis []uint32) {
	for _, c := range s.Conns["oio-1"].Children {
		spis = append(spis, c.SPIIn, c.SPIOut)
	}
	return spis
}

func TestRenewAndRekey(t *testing.T) {
	inRig(t, Options{}, func(g rig) {
		follows := peerConn(1)
		follows.Lead = false
		g.runner.Want([]Conn{follows})
		g.after(10 * time.Second)
		g.Peers()
		g.phase(g.after(time.Millisecond), "oio-1", Up, "")
		g.Commands()
		g.runner.Rekey("oio-1")
		g.runner.Rekey("oio-2") // nobody wants it
		g.after(time.Millisecond)
		g.told("rekey 2")
		g.runner.Renew("oio-1")
		g.phase(g.after(100*time.Millisecond), "oio-1", Up, "")
		g.told("terminate 1", "initiate oio-1-out", "initiate oio-1-in")
	})
}
