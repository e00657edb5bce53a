// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// watched is a running Watcher, and what it told last of each path: the identity
// of the file at that moment.
type watched struct {
	*Watcher
	t    *testing.T
	news chan map[string]fileID
	told map[string]fileID
}

func watch(t *testing.T, paths ...string) *watched {
	w := &watched{t: t, news: make(chan map[string]fileID, 100), told: map[string]fileID{}}
	w.Watcher = NewWatcher(func(paths []string) {
		told := map[string]fileID{}
		for _, p := range paths {
			told[p] = identity(p)
		}
		w.news <- told
	})
	w.Set(paths)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for _, p := range paths {
		w.hears("the start", p)
	}
	return w
}

func identity(path string) (id fileID) {
	if info, err := os.Stat(path); err == nil {
		id = idOf(info)
	}
	return id
}

// hears waits until it was told of path as it is now.
func (w *watched) hears(what, path string) {
	w.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		if told, is := w.told[path]; is && told == identity(path) {
			return
		}
		select {
		case news := <-w.news:
			maps.Copy(w.told, news)
		case <-limit:
			w.t.Fatalf("%s: not told of %s", what, path)
		}
	}
}

func TestWatchFile(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "1", 0o600)
	w := watch(t, a, b)
	write(t, a, "2", 0o600)
	w.hears("renamed over", a)
	must(t, os.WriteFile(a, []byte("333"), 0o600))
	w.hears("written in place", a)
	must(t, os.Chmod(a, 0o400))
	w.hears("other rights", a)
	must(t, os.WriteFile(filepath.Join(dir, "other"), nil, 0o600))
	write(t, b, "1", 0o600)
	w.hears("comes to be", b)
	must(t, os.Remove(a))
	w.hears("removed", a)
	c := filepath.Join(dir, "c")
	w.Set([]string{b, c})
	w.hears("a new one", c)
	write(t, a, "1", 0o600)
	write(t, c, "1", 0o600)
	w.hears("a new one comes to be", c)
	if _, is := w.told[filepath.Join(dir, "other")]; is || w.told[a] != (fileID{}) {
		t.Error("told of a file that nobody asked for")
	}
}

// TestWatchSecret exchanges files as Kubernetes does with a mounted secret: a link
// to a link to a directory, exchanged at once.
func TestWatchSecret(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, "tls.crt"), text, 0o600)
		must(t, os.Symlink(name, filepath.Join(dir, "..tmp")))
		must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", "one")
	cert := filepath.Join(dir, "tls.crt")
	must(t, os.Symlink("..data/tls.crt", cert))
	w := watch(t, cert)
	for _, name := range []string{"..2", "..3", "..4"} {
		version(name, "the same")
		w.hears(name, cert)
	}
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	must(t, os.RemoveAll(filepath.Join(dir, "..4")))
	w.hears("its directory is removed", cert)
	version("..5", "five")
	w.hears("back", cert)
}

// TestWatchDirectory: the directory itself comes late, goes and is exchanged.
func TestWatchDirectory(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "x", "y")
	cert := filepath.Join(dir, "c.pem")
	w := watch(t, cert)
	must(t, os.MkdirAll(dir, 0o700))
	write(t, cert, "1", 0o600)
	w.hears("comes with its directories", cert)
	must(t, os.Rename(dir, dir+".old"))
	w.hears("its directory is moved away", cert)
	must(t, os.Mkdir(dir, 0o700))
	write(t, cert, "2", 0o600)
	w.hears("another directory", cert)
	write(t, cert, "3", 0o600)
	w.hears("renamed over there", cert)
}

func TestDirectories(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	in := func(names ...string) string { return filepath.Join(append([]string{top}, names...)...) }
	must(t, os.MkdirAll(in("real", "deep"), 0o700))
	must(t, os.Symlink("real", in("link")))
	must(t, os.Symlink(in("link", "deep"), in("far")))
	must(t, os.Symlink("self", in("self")))
	for _, tc := range []struct {
		path string
		want []string
	}{
		{in("real", "c"), []string{in("real")}},
		{in("link", "c"), []string{top, in("real")}},
		{in("far", "c"), []string{top, in("real", "deep")}},
		{in("none", "deep", "c"), []string{top}},
		{in("self", "c"), []string{top}},
		{in("link", "..", "c"), []string{top}},
	} {
		if diff := cmp.Diff(tc.want, directories([]string{tc.path})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.path, diff)
		}
	}
}
