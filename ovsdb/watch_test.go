// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// watched is a Watch that runs until the end of the test.
type watched struct {
	*Watch
	tb  testing.TB
	log *logBuffer
}

// logBuffer keeps everything that is logged, at any level.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.Level(-100)}))
}

// follow runs a Watch on the socket with short delays.
func follow(tb testing.TB, sock string, tweak ...func(*Config)) *watched {
	tb.Helper()
	log := &logBuffer{}
	cfg := Config{
		Endpoint: "unix:" + sock, Logger: log.logger(), Settle: time.Millisecond,
		RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
	}
	for _, f := range tweak {
		f(&cfg)
	}
	w, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx)
	}()
	tb.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(limit):
			tb.Error("Run did not return after its context ended")
		}
	})
	return &watched{Watch: w, tb: tb, log: log}
}

// until waits for a snapshot and state that satisfy ok.
func (w *watched) until(what string, ok func(Snapshot, State) bool) (Snapshot, State) {
	w.tb.Helper()
	end := time.After(limit)
	for {
		s, st := w.Current()
		if ok(s, st) {
			return s, st
		}
		select {
		case <-w.Changed():
		case <-end:
			w.tb.Fatalf("waited %s for %s; tunnels %v, state %+v\n%s", limit, what, names(s), st, w.log)
		}
	}
}

// forget takes back what was told of something that was seen before.
func (w *watched) forget() {
	select {
	case <-w.Changed():
	default:
	}
}

// tunnels waits until exactly these tunnels are there.
func (w *watched) tunnels(want ...string) Snapshot {
	w.tb.Helper()
	s, _ := w.until("tunnels "+strings.Join(want, " "), func(s Snapshot, st State) bool {
		return st.Connected && slices.Equal(names(s), want)
	})
	return s
}

func (w *watched) tunnel(name, what string, ok func(*Tunnel) bool) {
	w.tb.Helper()
	w.until(what, func(s Snapshot, st State) bool {
		t := s.tunnel(name)
		return st.Connected && t != nil && ok(t)
	})
}

func TestFirstSnapshot(t *testing.T) {
	s := startServer(t)
	s.add(
		vxlan("vx1", "10.0.0.2", "ipsec_keys", "hv1-hv2"),
		port{name: "gnv0", kind: "geneve", options: map[string]string{"remote_ip": "fd00::2"}},
		port{name: "tap0", kind: "", options: nil},
		port{name: "int0", kind: "internal", options: map[string]string{"ipsec_keys": "x"}},
	)
	w := follow(t, s.sock)
	got := w.tunnels("gnv0", "vx1")
	got.Host.UUID = ""
	want := snapshotOf(
		[]*hostRow{{OVSVersion: new("3.1.0"), ExternalIDs: map[string]string{"system-id": "hv1", "hostname": "hv1.example"}}},
		portsOf([]*interfaceRow{
			{Name: "gnv0", Type: "geneve", Options: map[string]string{"remote_ip": "fd00::2"}},
			{Name: "vx1", Type: "vxlan", Options: map[string]string{"remote_ip": "10.0.0.2", "local_ip": "10.0.0.1", "key": "flow", "ipsec_keys": "hv1-hv2"}},
		}))
	want.Systems = []string{"tap0"}
	if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
		t.Errorf("snapshot (-want +got):\n%s", diff)
	}
	if _, st := w.Current(); !st.Connected || !st.Known || st.Err != nil || st.Since.IsZero() {
		t.Errorf("state %+v", st)
	}
}

func TestChanges(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	s.add(vxlan("vx1", "10.0.0.2"))
	w.tunnel("vx1", "a plain tunnel", func(t *Tunnel) bool { return !t.IPsec })

	s.options("vx1", map[string]string{"remote_ip": "10.0.0.3", "ipsec_keys": "a"})
	w.tunnel("vx1", "options to be replaced", func(t *Tunnel) bool {
		return t.IPsec && t.Keys == "a" && t.Remote.String() == "10.0.0.3" && !t.Local.IsValid()
	})
	s.transact(obj{"op": "mutate", "table": "Interface", "where": named("vx1"),
		"mutations": []any{[]any{"options", "delete", []any{"set", []any{"ipsec_keys"}}}}})
	w.tunnel("vx1", "an option to go", func(t *Tunnel) bool { return !t.IPsec })

	s.transact(obj{"op": "update", "table": "Interface", "where": named("vx1"), "row": obj{"type": "system"}})
	w.tunnels()
	s.transact(obj{"op": "update", "table": "Interface", "where": named("vx1"), "row": obj{"type": "geneve"}})
	w.tunnels("vx1")

	s.transact(obj{"op": "update", "table": "Open_vSwitch", "where": all, "row": obj{
		"ovs_version": "3.3.1", "other_config": mapOf(map[string]string{"hw-offload": "true"})}})
	w.until("the host's row to change", func(s Snapshot, _ State) bool {
		return s.Host.OVSVersion == "3.3.1" && s.Host.HWOffload == "true"
	})
	s.transact(obj{"op": "update", "table": "Open_vSwitch", "where": all, "row": obj{
		"ovs_version": []any{"set", []any{}}, "other_config": mapOf(nil)}})
	w.until("the host's columns to be cleared", func(s Snapshot, _ State) bool {
		return s.Host.OVSVersion == "" && s.Host.HWOffload == ""
	})
	s.transact(replacement(nil)...)
	w.tunnels()
}

// TestNoise: columns that vswitchd rewrites all the time must not wake anybody.
func TestNoise(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	w := follow(t, s.sock)
	w.tunnels("vx1")
	s.transact(
		obj{"op": "update", "table": "Interface", "where": all, "row": obj{
			"statistics": []any{"map", []any{[]any{"rx_bytes", 42}}}, "status": mapOf(map[string]string{"a": "b"})}},
		obj{"op": "update", "table": "Open_vSwitch", "where": all, "row": obj{"cur_cfg": 7, "next_cfg": 8}})
	s.options("vx1", map[string]string{"remote_ip": "10.0.0.9"}) // comes after, and shows that the rest has passed
	w.tunnel("vx1", "the last change", func(t *Tunnel) bool { return t.Remote.String() == "10.0.0.9" })
}

// TestShown: what is only shown is there and wakes nobody.
func TestShown(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	w := follow(t, s.sock)
	w.tunnels("vx1")
	set := func(ofport, fault any) {
		s.transact(obj{"op": "update", "table": "Interface", "where": named("vx1"), "row": obj{"ofport": ofport, "cfm_fault": fault}})
	}
	has := func(ofport int, fault *bool) func() bool {
		return func() bool {
			now, _ := w.Current()
			got := now.tunnel("vx1")
			return got.OFPort == ofport && (got.Fault == nil) == (fault == nil) && (fault == nil || *got.Fault == *fault)
		}
	}
	set(5, true)
	poll(t, "an ofport and a fault", has(5, new(true)))
	set(5, false)
	poll(t, "the end of the fault", has(5, new(false)))
	none := []any{"set", []any{}}
	set(none, none)
	poll(t, "neither", has(0, nil))
	select {
	case <-w.Changed():
		t.Error("the watch spoke up")
	default:
	}
}

func TestServerRestart(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"), vxlan("vx2", "10.0.0.3"), vxlan("vx3", "10.0.0.4"))
	w := follow(t, s.sock)
	w.tunnels("vx1", "vx2", "vx3")
	_, before := w.Current()

	s.kill()
	snap, st := w.until("the loss to be noticed", func(_ Snapshot, st State) bool { return !st.Connected })
	if !slices.Equal(names(snap), []string{"vx1", "vx2", "vx3"}) || !st.Known {
		t.Errorf("after the loss: tunnels %v, state %+v: want the last known tunnels, marked stale", names(snap), st)
	}
	if st.Since.Before(before.Since) {
		t.Errorf("lost since %v, connected since %v", st.Since, before.Since)
	}
	w.until("the refused connection", func(_ Snapshot, st State) bool { return errors.Is(st.Err, syscall.ECONNREFUSED) })

	// Changes while away, by a server on another socket.
	home := s.sock
	s.sock += "2"
	s.start()
	s.transact(replacement([]port{vxlan("vx1", "10.0.0.9"), vxlan("vx4", "10.0.0.5")})...)
	s.kill()
	s.sock = home
	s.start()
	got := w.tunnels("vx1", "vx4")
	if r := got.tunnel("vx1").Remote.String(); r != "10.0.0.9" {
		t.Errorf("vx1 goes to %s after the reconnect, want 10.0.0.9", r)
	}
	if _, st := w.Current(); st.Err != nil {
		t.Errorf("connected, but with error %v", st.Err)
	}
}

func TestDatabaseReplaced(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	w := follow(t, s.sock)
	w.tunnels("vx1")
	s.kill()
	s.create()
	s.start()
	snap, _ := w.until("the empty database", func(s Snapshot, st State) bool { return st.Connected && len(s.Tunnels) == 0 })
	if snap.Host.UUID != "" {
		t.Errorf("host %+v in a database without one", snap.Host)
	}
	if _, err := w.SetHWOffload(context.Background(), "true"); err == nil || !strings.Contains(err.Error(), "ovs-vsctl init") {
		t.Errorf("SetHWOffload without a host: %v", err)
	}
	s.init()
	w.until("the new host", func(s Snapshot, _ State) bool { return s.Host.SystemID == "hv1" })
}

func TestHungServer(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	w := follow(t, s.sock, func(c *Config) { c.Probe, c.Timeout = 20*time.Millisecond, 300*time.Millisecond })
	w.tunnels("vx1")
	s.signal(syscall.SIGSTOP)
	_, st := w.until("the hang to be noticed", func(_ Snapshot, st State) bool { return !st.Connected })
	if !strings.Contains(st.Err.Error(), "does not answer") {
		t.Errorf("error %q does not say what is wrong", st.Err)
	}
	// The kernel still accepts connections for a stopped server.
	w.until("the new connection to hang too", func(_ Snapshot, st State) bool {
		return errors.Is(st.Err, context.DeadlineExceeded) && strings.HasPrefix(st.Err.Error(), "connect ")
	})
	s.signal(syscall.SIGCONT)
	w.tunnels("vx1")
}

func TestSocketAppears(t *testing.T) {
	s := newServer(t)
	w := follow(t, s.sock)
	_, st := w.until("the first attempt", func(_ Snapshot, st State) bool { return errors.Is(st.Err, fs.ErrNotExist) })
	if want := "connect " + s.sock + ": no such file or directory"; !strings.HasPrefix(st.Err.Error(), want) {
		t.Errorf("error %q, want %q", st.Err, want)
	}
	if st.Connected || st.Known {
		t.Errorf("state %+v before anything was read", st)
	}
	poll(t, "some more attempts", func() bool { return strings.Count(w.log.String(), "trying to connect") > 3 })
	if n := strings.Count(w.log.String(), "no such file or directory"); n != 1 {
		t.Errorf("said %d times that the socket is missing, want once:\n%s", n, w.log)
	}
	s.start()
	s.init()
	w.until("the connection", func(s Snapshot, st State) bool { return st.Connected && s.Host.SystemID == "hv1" })
}

// TestPermission dials as a user who may not. Root may everything, so it takes
// on another user's rights to files for the while (setfsuid(2)).
func TestPermission(t *testing.T) {
	dir := t.TempDir()
	sock := filepath.Join(dir, "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(sock, 0); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			const nobody = 65534
			if err := unix.Setfsuid(nobody); err != nil {
				failed <- err
				return
			}
		}
		at, _ := parseEndpoint("unix:" + sock)
		_, err := dial(context.Background(), at, slog.New(slog.DiscardHandler), limit)
		failed <- err
	}()
	err = <-failed
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "run as root") {
		t.Errorf("error %v, want a refused permission and its remedy", err)
	}
}

func TestNotOVSDB(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
			c.Close()
		}
	}()
	w := follow(t, sock)
	w.until("a refusal", func(_ Snapshot, st State) bool {
		return strings.HasPrefix(st.Err.Error(), "connect "+sock) && st.Since.IsZero() == false
	})
}

func TestManyPortsAtOnce(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	s.add(tunnels(1000)...)
	seen := 0
	w.until("1000 tunnels", func(s Snapshot, _ State) bool {
		if n := len(s.Tunnels); n != 0 && n != 1000 {
			t.Fatalf("saw %d of the 1000 tunnels of one transaction", n)
		}
		seen++
		return len(s.Tunnels) == 1000
	})
	s.transact(replacement(nil)...)
	w.tunnels()
}

// TestRunEnds ends the watch in every phase.
func TestRunEnds(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	ctx, cancel := context.WithCancel(context.Background())
	other, err := New(Config{Endpoint: "unix:" + s.sock})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	other.Run(ctx)
	if _, st := other.Current(); st.Connected || !errors.Is(st.Err, errEnded) {
		t.Errorf("state %+v after the end", st)
	}
	if err := other.Report(context.Background(), nil); !errors.Is(err, ErrNotConnected) {
		t.Errorf("report after the end: %v", err)
	}
}

func TestRetryDelay(t *testing.T) {
	const low, high = 50 * time.Millisecond, 2 * time.Second
	for _, tc := range []struct {
		attempt int
		random  float64
		want    time.Duration
	}{
		{0, 0, 25 * time.Millisecond},
		{0, 1, 50 * time.Millisecond},
		{1, 1, 100 * time.Millisecond},
		{5, 1, 1600 * time.Millisecond},
		{6, 1, high},
		{6, 0.5, 1500 * time.Millisecond},
		{1 << 40, 1, high},
	} {
		if got := retryDelay(tc.attempt, low, high, tc.random); got != tc.want {
			t.Errorf("retryDelay(%d, %v) = %v, want %v", tc.attempt, tc.random, got, tc.want)
		}
	}
}
