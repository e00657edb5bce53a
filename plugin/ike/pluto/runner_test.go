// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ovs-ipsec-offload/plugin/ike"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a host with pluto, whose peer answers at once or never.
type fake struct {
	mu      sync.Mutex
	pid     int // 0: it does not run
	hang    bool
	silent  bool // the peer
	conns   map[string]string
	up      map[string]int // halves with a child SA
	serial  int
	trying  map[string]int // attempts with a silent peer: pluto goes on when whack is gone
	kept    map[string]string
	keptBy  int
	secrets string
	cut     bool // an attempt was ended that pluto was at
	log     []string
}

func newFake() *fake {
	return &fake{pid: 1, conns: map[string]string{}, up: map[string]int{}, kept: map[string]string{}, trying: map[string]int{}}
}

func (f *fake) PID(context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pid == 0 {
		return 0, errors.New("pluto does not run")
	}
	return f.pid, nil
}

func (f *fake) Whack(ctx context.Context, args ...string) (string, error) {
	f.mu.Lock()
	hang := f.hang || f.silent && args[0] == "--initiate"
	if hang && args[0] == "--initiate" {
		f.trying[args[len(args)-1]]++
	}
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return "", ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	half := args[len(args)-1]
	switch args[0] {
	case "--status":
		out := "pluto_version=5.2, x\n"
		for name := range f.conns {
			out += fmt.Sprintf("%q: x\n", name)
		}
		return out, nil
	case "--showstates":
		out := ""
		for name, n := range f.up {
			out += fmt.Sprintf("#%d: %q:500 ESTABLISHED_IKE_SA (x); newest; idle;\n", 1000+n, name)
			out += fmt.Sprintf("#%d: %q:500 ESTABLISHED_CHILD_SA (x); newest; idle;\n#%d: %q esp.%x@10.0.0.2 esp.%x@10.0.0.1 x\n", n, name, n, name, n+16, n+32)
		}
		for name, n := range f.trying {
			if !f.silent { // pluto has sent again
				f.serial++
				f.up[name] = f.serial
				delete(f.trying, name)
			}
			for i := range n {
				out += fmt.Sprintf("#%d: %q:500 IKE_SA_INIT_I (x); idle;\n", 2000+i, name)
			}
		}
		return out, nil
	case "--trafficstatus":
		return "", nil
	}
	f.log = append(f.log, strings.Join(args, " "))
	switch args[0] {
	case "--initiate":
		f.serial++
		f.up[half] = f.serial
		return "established Child SA", nil
	case "--rekey-child":
		f.serial++
		f.up[half] = f.serial
	case "--terminate":
		f.cut = true
	case "--delete":
		delete(f.trying, half)
		delete(f.conns, half)
		delete(f.up, half)
	}
	return "", nil
}

func (f *fake) Add(_ context.Context, name, text string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, "add "+name)
	f.conns[name], f.kept[name], f.keptBy = text, text, f.pid
	delete(f.up, name)
	delete(f.trying, name)
	return "\"x\": added IKEv2 connection", nil
}

func (f *fake) Kept(pid int) map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pid != f.keptBy {
		return nil
	}
	return maps.Clone(f.kept)
}

func (f *fake) Forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.kept, name)
}

func (f *fake) Secrets(text []byte) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.secrets
	f.secrets = string(text)
	return was != f.secrets, nil
}

// did returns what was done since the last call.
func (f *fake) did() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.log
	f.log = nil
	return all
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// play runs a runner beside a story, in a time of its own.
func play(t *testing.T, f *fake, story func(t *testing.T, r *Runner)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := New(Config{Hands: f})
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		story(t, r)
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *fake) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := f.did(); !slices.Equal(got, want) {
		t.Errorf("did %q, want %q", got, want)
	}
}

func expectPhase(t *testing.T, r *Runner, phase string) {
	t.Helper()
	if s := r.State(); s.Conns[testConn().Name].Phase != phase {
		t.Errorf("%+v, want phase %s", s, phase)
	}
}

const (
	outHalf = "oio-0123456789abcdef-out"
	inHalf  = "oio-0123456789abcdef-in"
)

func TestRunnerBringsUp(t *testing.T) {
	f := newFake()
	play(t, f, func(t *testing.T, r *Runner) {
		after(time.Minute)
		f.expect(t) // nobody has said what is wanted
		r.Want([]ike.Conn{testConn()})
		after(3 * time.Second)
		f.expect(t, "--rereadsecrets", "add "+outHalf, "add "+inHalf, "--initiate --name "+outHalf)
		after(10 * time.Second) // the peer does not do its part
		f.expect(t, "--initiate --name "+inHalf)
		expectPhase(t, r, ike.Up)
		r.Rekey(testConn().Name)
		after(time.Second)
		f.expect(t, "--rekey-child --asynchronous --name "+outHalf)
		r.Renew(testConn().Name)
		after(10 * time.Second)
		if got := f.did(); !slices.Contains(got, "--delete --name "+outHalf) || !slices.Contains(got, "--initiate --name "+outHalf) {
			t.Errorf("Renew did %q", got)
		}
		after(10 * time.Second)
		expectPhase(t, r, ike.Up)
		r.Want(nil)
		after(3 * time.Second)
		if len(f.conns) != 0 || len(f.kept) != 0 || strings.Contains(f.secrets, "PSK") {
			t.Errorf("what nobody wants is still there: %v %v", f.conns, f.secrets)
		}
	})
}

func TestRunnerWaitsForTheLead(t *testing.T) {
	f := newFake()
	c := testConn()
	c.Lead = false
	play(t, f, func(t *testing.T, r *Runner) {
		r.Want([]ike.Conn{c})
		after(4 * time.Second)
		f.expect(t, "--rereadsecrets", "add "+outHalf, "add "+inHalf)
		f.set(func() { f.up[inHalf] = 77 }) // the peer has set up its own
		after(2 * time.Second)
		f.expect(t, "--initiate --name "+outHalf)
		after(2 * time.Second)
		expectPhase(t, r, ike.Up)
	})
}

func TestRunnerAdopts(t *testing.T) {
	f := newFake()
	play(t, f, func(t *testing.T, r *Runner) {
		r.Want([]ike.Conn{testConn()})
		after(20 * time.Second)
		f.did()
	})
	play(t, f, func(t *testing.T, r *Runner) {
		r.Want([]ike.Conn{testConn()})
		after(5 * time.Second)
		f.expect(t, "--rereadsecrets") // all is as it should be; whether pluto has read them is not known
		expectPhase(t, r, ike.Up)
		f.set(func() { f.pid, f.conns, f.up = 2, map[string]string{}, map[string]int{} })
		after(20 * time.Second)
		expectPhase(t, r, ike.Up) // another pluto, which had nothing
	})
}

func TestRunnerWithoutPluto(t *testing.T) {
	f := newFake()
	f.pid = 0
	play(t, f, func(t *testing.T, r *Runner) {
		r.Want([]ike.Conn{testConn()})
		after(5 * time.Second)
		if p := r.State().Problem; p == nil || p.Code != ike.CodeDown {
			t.Errorf("problem %v, want %s", p, ike.CodeDown)
		}
		f.set(func() { f.pid, f.hang = 1, true })
		after(time.Minute)
		if p := r.State().Problem; p == nil || p.Code != ike.CodeStuck {
			t.Errorf("problem %v, want %s", p, ike.CodeStuck)
		}
		f.set(func() { f.hang, f.silent = false, true })
		after(time.Minute)
		if c := r.State().Conns[testConn().Name]; c.Problem == nil || c.Problem.Code != ike.CodeNoAnswer {
			t.Errorf("%+v, want %s", c, ike.CodeNoAnswer)
		}
		f.set(func() { f.silent = false })
		after(2 * time.Minute)
		expectPhase(t, r, ike.Up)
	})
}

// What somebody deletes from pluto, or another pluto with the same process id lacks, it
// gets again once attempts fail.
func TestRunnerFindsWhatIsDeleted(t *testing.T) {
	f := newFake()
	play(t, f, func(t *testing.T, r *Runner) {
		r.Want([]ike.Conn{testConn()})
		after(20 * time.Second)
		expectPhase(t, r, ike.Up)
		f.set(func() { clear(f.conns); clear(f.up); f.silent = true })
		after(time.Minute)
		f.set(func() {
			if len(f.conns) != 2 {
				t.Errorf("pluto has %v, want both halves", f.conns)
			}
			f.silent = false
		})
		after(time.Minute)
		expectPhase(t, r, ike.Up)
	})
}

// While a peer is silent pluto is at one attempt, not at one for each that was given up
// here: when the peer comes each would leave SAs.
func TestRunnerHasOneAttempt(t *testing.T) {
	f := newFake()
	f.silent = true
	play(t, f, func(t *testing.T, r *Runner) {
		r.Want([]ike.Conn{testConn()})
		for i := range 100 {
			after(time.Second)
			f.set(func() {
				if n := f.trying[outHalf]; n != 1 && i > 2 {
					t.Fatalf("pluto is at %d attempts", n)
				}
			})
		}
		f.set(func() {
			if f.cut {
				t.Error("an attempt was cut")
			}
			f.silent = false
			clear(f.trying)
			f.up[outHalf], f.serial = 1, 1 // by that attempt
		})
		f.did()
		after(time.Minute)
		expectPhase(t, r, ike.Up)
		for _, did := range f.did() {
			if did == "--terminate --name "+outHalf {
				t.Error("what the peer answered at last was ended")
			}
		}
	})
}

// slowly takes its time for each connection.
type slowly struct{ *fake }

func (s slowly) Add(ctx context.Context, name, text string) (string, error) {
	time.Sleep(100 * time.Millisecond)
	return s.fake.Add(ctx, name, text)
}

// A pair comes up by its peer while many others are loaded: what was seen of it before is
// no reason to begin it anew.
func TestRunnerLooksAgain(t *testing.T) {
	for at := 160 * time.Second; at < 190*time.Second; at += 3 * time.Second {
		f := newFake()
		f.silent = true
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			r := New(Config{Hands: slowly{f}})
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			late := testConn()
			r.Want([]ike.Conn{late})
			after(at)
			all := []ike.Conn{late}
			for i := range 80 {
				c := testConn()
				c.Name = fmt.Sprintf("oio-00%014x", i)
				all = append(all, c)
			}
			r.Want(all)
			after(3 * time.Second)
			f.did()
			f.set(func() {
				f.silent, f.serial = false, 2
				clear(f.trying)
				f.up[outHalf], f.up[inHalf] = 1, 2
			})
			after(time.Minute)
			for _, did := range f.did() {
				if did == "--terminate --name "+outHalf || did == "--initiate --name "+outHalf {
					t.Errorf("at %v: %s, though it is up", at, did)
				}
			}
			f.set(func() {
				if len(f.up) != 2*len(all) {
					t.Errorf("at %v: %d halves are up, want %d", at, len(f.up), 2*len(all))
				}
			})
			cancel()
			<-done
		})
	}
}
