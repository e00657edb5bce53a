// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestEventRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Event{Kind: rapid.SampledFrom([]EventKind{Booted, Started, Failed, Exited}).Draw(t, "kind")}
		switch e.Kind {
		case Failed:
			e.Text = rapid.String().Draw(t, "text")
		case Exited:
			e.Code = rapid.IntRange(0, 255).Draw(t, "code")
			e.Stdout, e.Stderr = rapid.Int64().Draw(t, "stdout"), rapid.Int64().Draw(t, "stderr")
		}
		line := e.String()
		if strings.Contains(line, "\n") {
			t.Fatalf("more than a line: %q", line)
		}
		got, err := ParseEvent(line)
		if err != nil || got != e {
			t.Fatalf("%q: got %+v, %v; want %+v", line, got, err, e)
		}
	})
}

func TestParseEventRefuses(t *testing.T) {
	for _, line := range []string{"", "hello", "exit", "exit 1", "exit x 0 0", "exit 1 2", "fail", "fail text", `fail "open`} {
		if e, err := ParseEvent(line); err == nil {
			t.Errorf("%q: %+v", line, e)
		}
	}
}

func TestScriptsAreShell(t *testing.T) {
	err := fs.WalkDir(Scripts, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := Scripts.ReadFile(name)
		if err != nil {
			return err
		}
		if !bytes.Contains(text, []byte("# SPDX-License-Identifier: Apache-2.0\n")) {
			t.Errorf("%s: no licence", name)
		}
		sh := exec.Command("sh", "-n")
		sh.Stdin = bytes.NewReader(text)
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// portDir makes a directory like /sys/class/virtio-ports.
func portDir(t *testing.T, names ...string) string {
	dir := t.TempDir()
	for i, name := range names {
		port := filepath.Join(dir, "vport1p"+string(rune('1'+i)))
		if err := os.Mkdir(port, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(port, "name"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPortDevices(t *testing.T) {
	got, err := portDevices(portDir(t, PortResults, PortStdout, PortControl, PortStderr))
	want := map[string]string{
		PortResults: "/dev/vport1p1", PortStdout: "/dev/vport1p2",
		PortControl: "/dev/vport1p3", PortStderr: "/dev/vport1p4",
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPortDevicesGivesUp(t *testing.T) {
	dir := portDir(t, PortResults, PortStdout)
	synctest.Test(t, func(t *testing.T) {
		if _, err := portDevices(dir); err == nil {
			t.Error("no error though two ports are missing")
		}
	})
}

func TestAddTree(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("A"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "sub/b"), []byte("B"), 0o644))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := addTree(w, dir, OutPrefix); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got := map[string]string{}
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r)
		got[h.Name] = string(text)
	}
	if d := cmp.Diff(map[string]string{"out/a": "A", "out/sub": "", "out/sub/b": "B"}, got); d != "" {
		t.Error(d)
	}
}

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		status unix.WaitStatus
		want   int
	}{{0, 0}, {7 << 8, 7}, {9, 137}, {15, 143}} {
		if got := exitCode(c.status); got != c.want {
			t.Errorf("status %#x: code %d, want %d", int(c.status), got, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	env := environment(Plan{Env: []string{"A=b"}, Hypervisors: 3, Terminal: &Terminal{Term: "xterm"}})
	last := map[string]string{} // the last of a name counts
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		last[name] = value
	}
	for name, want := range map[string]string{"A": "b", "LAB_HYPERVISORS": "3", "TERM": "xterm", "LAB_OUT": OutDir} {
		if last[name] != want {
			t.Errorf("%s is %q, want %q", name, last[name], want)
		}
	}
	if !strings.HasPrefix(last["PATH"], "/lab/bin:") {
		t.Errorf("PATH is %q", last["PATH"])
	}
}

// must ends the test if preparing it failed.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
