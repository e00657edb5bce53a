// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hold plays another process that has a pid file: its lock is the open file's and
// not this process's, so that a look from here sees it too (fcntl(2)).
func hold(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		fmt.Fprintln(f, 4711)
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func taken(t *testing.T, p *Place) net.Listener {
	t.Helper()
	l, err := p.Take()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); p.Leave() })
	return l
}

// files returns the names in a directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.ReplaceAll(e.Name(), fmt.Sprint(os.Getpid()), "PID"))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestPlace(t *testing.T) {
	dir := t.TempDir()
	p := NewPlace(dir, "prog")
	if p.Stands() {
		t.Error("stands before it is taken")
	}
	l := taken(t, p)
	if got := files(t, dir); got != "prog.PID.ctl prog.pid" || !p.Stands() {
		t.Errorf("files %s", got)
	}
	if text, err := exec.Command("cat", p.PIDFile()).Output(); string(text) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("pid file says %q, %v", text, err)
	}
	if info, err := os.Stat(p.ctl()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	for range 2 { // a look gives no lock up
		if pid, err := p.Other(); pid != 0 || err != nil {
			t.Errorf("other: %d, %v", pid, err)
		}
	}
	if pid := lockedBy(t, p.PIDFile()); pid != os.Getpid() {
		t.Errorf("locked by %d", pid)
	}
	l.Close()
	if p.Stands() {
		t.Error("stands without its socket")
	}
	if err := p.Leave(); err != nil || files(t, dir) != "" {
		t.Errorf("left: %v, files %s", err, files(t, dir))
	}
}

// lockedBy asks another process who has a file locked: /proc/locks says it too.
func lockedBy(t *testing.T, path string) int {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(locks)) {
		// 1: POSIX  ADVISORY  WRITE 1234 08:01:5678 0 EOF
		f := strings.Fields(line)
		if len(f) > 5 && f[1] == "POSIX" && f[3] == "WRITE" && strings.HasSuffix(f[5], fmt.Sprintf(":%d", st.Ino)) {
			var pid int
			fmt.Sscan(f[4], &pid)
			return pid
		}
	}
	return 0
}

func TestPlaceTaken(t *testing.T) {
	dir := t.TempDir()
	p := NewPlace(dir, "prog")
	f := hold(t, p.PIDFile())
	_, err := p.Take()
	if e, is := errors.AsType[*TakenError](err); !is || e.PID != 4711 || e.Path != p.PIDFile() {
		t.Errorf("take: %v", err)
	}
	if pid, err := p.Other(); pid != 4711 || err != nil {
		t.Errorf("other: %d, %v", pid, err)
	}
	if got := files(t, dir); got != "prog.pid" {
		t.Errorf("files %s", got)
	}
	f.Close() // as it dies; its pid file stays
	if pid, err := p.Other(); pid != 0 || err != nil {
		t.Errorf("other after its death: %d, %v", pid, err)
	}
	taken(t, p)
	if !p.Stands() {
		t.Error("does not stand in a dead process's place")
	}
}

// TestPlaceLost: whoever takes files away is noticed, and one who put its own
// there is seen and not disturbed.
func TestPlaceLost(t *testing.T) {
	dir := t.TempDir()
	p := NewPlace(dir, "prog")
	taken(t, p)
	if err := os.Remove(p.PIDFile()); err != nil || p.Stands() {
		t.Errorf("stands without its pid file; %v", err)
	}
	l := taken(t, p)
	if !p.Stands() {
		t.Error("not taken again")
	}
	if err := os.Remove(p.PIDFile()); err != nil {
		t.Fatal(err)
	}
	hold(t, p.PIDFile())
	if pid, err := p.Other(); pid != 4711 || err != nil || p.Stands() {
		t.Errorf("other: %d, %v", pid, err)
	}
	l.Close()
	if err := p.Leave(); err != nil || files(t, dir) != "prog.pid" {
		t.Errorf("left: %v; files %s", err, files(t, dir))
	}
}

func TestPlaceSweeps(t *testing.T) {
	dir := t.TempDir()
	socket := func(name string, alive bool) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		if !alive {
			l.SetUnlinkOnClose(false)
			l.Close()
			return
		}
		t.Cleanup(func() { l.Close() })
	}
	socket("prog.1.ctl", false)
	socket("prog.2.ctl", true)
	socket("other.3.ctl", false)
	if err := os.WriteFile(filepath.Join(dir, "prog.4.ctl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken(t, NewPlace(dir, "prog"))
	if got := files(t, dir); got != "other.3.ctl prog.2.ctl prog.4.ctl prog.PID.ctl prog.pid" {
		t.Errorf("files %s", got)
	}
}

func TestPlaceWithoutDirectory(t *testing.T) {
	p := NewPlace(filepath.Join(t.TempDir(), "none"), "prog")
	if _, err := p.Take(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("take: %v", err)
	}
	if pid, err := p.Other(); pid != 0 || err != nil {
		t.Errorf("other: %d, %v", pid, err)
	}
	if p.Stands() || p.Leave() != nil {
		t.Error("stands, or cannot leave")
	}
}

// TestAppctl has the real client find a place by name and speak to it.
func TestAppctl(t *testing.T) {
	appctl, err := exec.LookPath("ovs-appctl")
	if err != nil {
		t.Skip("ovs-appctl is not installed")
	}
	dir := t.TempDir()
	p := NewPlace(dir, "prog")
	l := taken(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sample().Serve(ctx, l) }()
	for _, tc := range []struct{ args, out, err string }{
		{"version", "prog 1.2\n", ""},
		{"say a b", "a b\n", ""},
		{"list-commands", sample().list(), ""},
		{"fail", "", "no luck\novs-appctl: prog: server returned an error\n"},
		{"nosuch", "", "\"nosuch\" is not a valid command: list-commands names those that are\novs-appctl: prog: server returned an error\n"},
	} {
		var out, errs strings.Builder
		cmd := exec.Command(appctl, append([]string{"-T", "60", "-t", "prog"}, strings.Fields(tc.args)...)...)
		cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "OVS_RUNDIR="+dir), &out, &errs
		if err := cmd.Run(); (err == nil) != (tc.err == "") || out.String() != tc.out || errs.String() != tc.err {
			t.Errorf("%s: %v, out %q, err %q", tc.args, err, out.String(), errs.String())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
