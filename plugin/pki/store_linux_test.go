// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// counting is the host's file system with a count of what is opened.
type counting struct {
	Host
	opened int
}

func (c *counting) Open(path string) (fs.File, error) {
	c.opened++
	return c.Host.Open(path)
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), mode))
	must(t, os.Chmod(path+".new", mode)) // whatever the umask
	must(t, os.Rename(path+".new", path))
}

func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "psk")
	ref := Ref{PSKFile, path}
	fsys := &counting{}
	s := NewStore(fsys, os.Geteuid())
	read := func() string {
		t.Helper()
		c := s.Read([]Ref{ref, ref})[ref]
		return code(c.Problem) + string(c.Secret.Bytes())
	}
	if got := read(); got != CodeMissing {
		t.Fatalf("before it is there: %s", got)
	}
	write(t, path, "one\n", 0o600)
	for range 3 {
		if got := read(); got != "one" {
			t.Fatalf("read %q", got)
		}
	}
	if fsys.opened != 1 {
		t.Errorf("opened %d times, though it did not change", fsys.opened)
	}
	write(t, path, "two\n", 0o600)
	if got := read(); got != "two" {
		t.Errorf("after it was exchanged: %q", got)
	}
	must(t, os.Chmod(path, 0o644))
	if got := read(); got != CodeMode {
		t.Errorf("after others may read it: %q", got)
	}
	must(t, os.Chmod(path, 0o400))
	if got := read(); got != "two" {
		t.Errorf("after they may not any more: %q", got)
	}
	s.Keep([]Ref{ref})
	if len(s.seen) != 1 {
		t.Error("what is asked for is forgotten")
	}
	s.Keep([]Ref{{CACert, "/ca"}})
	if len(s.seen) > 0 {
		t.Error("what nobody asks for is not forgotten")
	}
	must(t, os.Remove(path))
	if got := read(); got != CodeMissing {
		t.Errorf("after it was removed: %q", got)
	}
}

func TestStoreOddFiles(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(Host{}, os.Geteuid())
	pipe, loop, big := filepath.Join(dir, "pipe"), filepath.Join(dir, "loop"), filepath.Join(dir, "big")
	must(t, unix.Mkfifo(pipe, 0o600))
	must(t, os.Symlink(loop, loop))
	must(t, os.WriteFile(big, make([]byte, MaxFile+1), 0o600))
	for _, path := range []string{dir, pipe, loop, big, big + "/below"} {
		c := s.Read([]Ref{{PSKFile, path}})[Ref{PSKFile, path}]
		if code(c.Problem) != CodeFile || !strings.Contains(c.Problem.Text, path) {
			t.Errorf("%s: %v", path, c.Problem)
		}
	}
}

func TestJudge(t *testing.T) {
	const self, other = 990, 1000
	for _, tc := range []struct {
		role  Role
		mode  fs.FileMode
		owner int
		want  string
	}{
		{PrivateKey, 0o600, 0, ""},
		{PrivateKey, 0o400, self, ""},
		{PrivateKey, 0o640, 0, ""}, // root gave it to a group
		{PrivateKey, 0o640, self, CodeMode},
		{PrivateKey, 0o644, 0, CodeMode},
		{PrivateKey, 0o620, 0, CodeMode},
		{PrivateKey, 0o600, other, CodeMode},
		{PSKFile, 0o604, 0, CodeMode},
		{PSKFile, 0o600, self, ""},
		{Certificate, 0o644, 0, ""},
		{CACert, 0o644, self, ""},
		{CACert, 0o664, 0, CodeMode},
		{RemoteCert, 0o646, 0, CodeMode},
		{RemoteCert, 0o644, other, CodeMode},
		{RemoteCert, 0o644 | fs.ModeDir, 0, CodeFile},
		{PSKFile, 0o600 | fs.ModeNamedPipe, 0, CodeFile},
	} {
		if p := judge(Ref{tc.role, "/f"}, tc.mode, 10, tc.owner, self); code(p) != tc.want {
			t.Errorf("%s %04o of %d: %v, want %q", tc.role, tc.mode, tc.owner, p, tc.want)
		}
	}
}
