// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// keysDir returns a directory with the key set set1.
func keysDir(t *testing.T) (dir, path string) {
	dir = filepath.Join(t.TempDir(), "keys.d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "set1.json")
	write(t, path, testFile(t, 1))
	return dir, path
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStoreLookupAndMaterial(t *testing.T) {
	dir, _ := keysDir(t)
	want, _ := testPair(t, 1)
	s := NewStore(dir)
	got, err := s.Lookup("set1")
	must(t, err)
	if diff := cmp.Diff(want.Public(), got, noKeys); diff != "" {
		t.Errorf("set (-want +got):\n%s", diff)
	}
	in, out, err := s.Material(got)
	must(t, err)
	if !bytes.Equal(rawKey(in), rawKey(want.In.Key)) || !bytes.Equal(rawKey(out), rawKey(want.Out.Key)) {
		t.Error("not the keys of the file, or in and out are exchanged")
	}
}

func TestStoreSeesEveryChange(t *testing.T) {
	dir, path := keysDir(t)
	s := NewStore(dir)
	old, err := s.Lookup("set1")
	must(t, err)

	// The same inode, size and mtime; only ctime tells.
	info, err := os.Stat(path)
	must(t, err)
	write(t, path, testFile(t, 2))
	must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	_, _, err = s.Material(old)
	wantCode(t, err, CodeChanged)
	second, err := s.Lookup("set1")
	must(t, err)
	if second.Out.KeyPrint == old.Out.KeyPrint {
		t.Error("the old set was returned for a new file")
	}

	must(t, os.Chmod(path, 0o640))
	_, err = s.Lookup("set1")
	wantCode(t, err, CodeMode)
	must(t, os.Remove(path))
	_, err = s.Lookup("set1")
	wantCode(t, err, CodeMissing)
	write(t, path, testFile(t, 1))
	third, err := s.Lookup("set1")
	must(t, err)
	if third != old {
		t.Error("the file that was put back gives another set")
	}
}

func TestStoreReadsOnlyOnChange(t *testing.T) {
	dir, _ := keysDir(t)
	s := NewStore(dir)
	_, err := s.Lookup("set1")
	must(t, err)
	before := s.seen["set1"]
	before.set.Peer = "marked"
	s.seen["set1"] = before
	got, err := s.Lookup("set1")
	must(t, err)
	if got.Peer != "marked" {
		t.Error("an unchanged file was read again")
	}
}

func TestStoreRefusals(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, dir, path string)
		code string
		text string // part of the message
	}{
		{"no file", func(t *testing.T, _, path string) { must(t, os.Remove(path)) }, CodeMissing, "keys new"},
		{"no directory", func(t *testing.T, dir, _ string) { must(t, os.RemoveAll(dir)) }, CodeMissing, "keys new"},
		{"group may read", func(t *testing.T, _, path string) { must(t, os.Chmod(path, 0o640)) }, CodeMode, "chmod 600 "},
		{"others may read", func(t *testing.T, _, path string) { must(t, os.Chmod(path, 0o604)) }, CodeMode, "mode 0604"},
		{"others may exchange files", func(t *testing.T, dir, _ string) { must(t, os.Chmod(dir, 0o722)) }, CodeMode, "chmod go-w "},
		{"a directory", func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}, CodeFile, "not a regular file"},
		{"a pipe", func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			must(t, unix.Mkfifo(path, 0o600))
		}, CodeFile, "not a regular file"},
		{"a link out of the directory", func(t *testing.T, dir, path string) {
			out := filepath.Join(filepath.Dir(dir), "elsewhere")
			must(t, os.Rename(path, out))
			must(t, os.Symlink("../elsewhere", path))
		}, CodeFile, "escapes"},
		{"too large", func(t *testing.T, _, path string) { write(t, path, make([]byte, MaxFile+1)) }, CodeFile, "4097 bytes"},
		{"empty", func(t *testing.T, _, path string) { write(t, path, nil) }, CodeFormat, "not valid JSON"},
		{"corrupt", func(t *testing.T, _, path string) { write(t, path, testFile(t, 1)[:300]) }, CodeFormat, "not valid JSON"},
		{"renamed", func(t *testing.T, _, path string) {
			write(t, path, []byte(strings.Replace(string(testFile(t, 1)), "set1", "other", 1)))
		}, CodeName, "other.json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, path := keysDir(t)
			tt.make(t, dir, path)
			for range 2 { // the second time from what was kept
				s := NewStore(dir)
				_, err := s.Lookup("set1")
				wantCode(t, err, tt.code)
				if !strings.Contains(err.Error(), tt.text) {
					t.Errorf("message %q lacks %q", err, tt.text)
				}
				_, _, err = s.Material(Set{Name: "set1"})
				wantCode(t, err, tt.code)
			}
		})
	}
}

func TestStoreRefusesForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	dir, path := keysDir(t)
	must(t, os.Chown(path, 1234, -1))
	_, err := NewStore(dir).Lookup("set1")
	wantCode(t, err, CodeMode)
}

func TestStoreRefusesBadNames(t *testing.T) {
	dir, _ := keysDir(t)
	for _, name := range []string{"", ".", "..", "../set1", "a/b", "-x", "a b", "a\x00", strings.Repeat("x", 129)} {
		_, err := NewStore(dir).Lookup(name)
		wantCode(t, err, CodeName)
	}
}

// Kubernetes mounts secrets as links to files of a hidden directory.
func TestStoreFollowsLinksInside(t *testing.T) {
	dir, path := keysDir(t)
	must(t, os.Mkdir(filepath.Join(dir, "..data"), 0o700))
	must(t, os.Rename(path, filepath.Join(dir, "..data", "set1.json")))
	must(t, os.Symlink("..data/set1.json", path))
	_, err := NewStore(dir).Lookup("set1")
	must(t, err)
}

func TestWriteFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	a, b := testPair(t, 1)
	for _, s := range []Set{a, b} {
		path, err := WriteFile(dir, s)
		must(t, err)
		if want := filepath.Join(dir, s.Host, "set1.json"); path != want {
			t.Errorf("written to %s, want %s", path, want)
		}
		for p, mode := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
			info, err := os.Stat(p)
			must(t, err)
			if info.Mode().Perm() != mode {
				t.Errorf("%s has mode %v, want %v", p, info.Mode().Perm(), mode)
			}
		}
		got, err := NewStore(filepath.Join(dir, s.Host)).Lookup("set1")
		must(t, err)
		if got != s.Public() {
			t.Errorf("read back %v", got)
		}
	}
	if _, err := WriteFile(dir, a); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("a key set was overwritten: %v", err)
	}
	must(t, os.Chmod(filepath.Join(dir, "hv1"), 0o755))
	a.Name = "set2"
	if _, err := WriteFile(dir, a); err == nil || !strings.Contains(err.Error(), "chmod 700 ") {
		t.Errorf("written to an open directory: %v", err)
	}
}

func TestWatch(t *testing.T) {
	dir, path := keysDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, dir, func() { changed <- struct{}{} }) }()
	<-changed // the watch stands
	write(t, path, testFile(t, 2))
	<-changed
	cancel()
	must(t, <-done)
}

func TestWatchTellsWhenTheDirectoryGoes(t *testing.T) {
	dir, _ := keysDir(t)
	done := make(chan error, 1)
	ready := make(chan struct{}, 100)
	go func() { done <- Watch(t.Context(), dir, func() { ready <- struct{}{} }) }()
	<-ready
	must(t, os.RemoveAll(dir))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("got %v", err)
	}
	if err := Watch(t.Context(), dir, func() {}); err == nil {
		t.Error("no error for a directory that is not there")
	}
}
