// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// Watcher tells when files change, come or go, in whatever way: written in place,
// renamed over, or by a symbolic link on the way to them that is exchanged, as
// Kubernetes does with mounted secrets. It is a hint that saves waiting for the
// next round: Store looks at the files themselves. A directory that is moved
// above the one a file is in is not noticed.
type Watcher struct {
	changed func(paths []string)
	poke    chan struct{} // has a value when Set was called

	mu   sync.Mutex
	want []string
}

// NewWatcher returns a Watcher that calls changed, from one goroutine, with the
// paths of what changed. It watches once Run is called.
func NewWatcher(changed func(paths []string)) *Watcher {
	return &Watcher{changed: changed, poke: make(chan struct{}, 1)}
}

// Set says which files to watch, by absolute paths; they need not be there. It
// returns at once. Each new one counts as changed, since it may have been read
// before it was watched.
func (w *Watcher) Set(paths []string) {
	paths = slices.Clone(paths)
	slices.Sort(paths)
	paths = slices.Compact(paths)
	w.mu.Lock()
	same := slices.Equal(w.want, paths)
	w.want = paths
	w.mu.Unlock()
	if same {
		return
	}
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

func (w *Watcher) wanted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.want
}

// Run watches until ctx ends, and returns an error when it cannot any more.
func (w *Watcher) Run(ctx context.Context) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch certificates: %w", err)
	}
	defer notify.Close()
	seen := map[string]fileID{}
	for {
		if err := w.look(notify, seen); err != nil {
			return fmt.Errorf("watch certificates: %w", err)
		}
		if err := w.wait(ctx, notify); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// wait returns when something may have changed. Events that came together are
// one.
func (w *Watcher) wait(ctx context.Context, notify *fsnotify.Watcher) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.poke:
	case _, ok := <-notify.Events:
		if !ok {
			return errors.New("watch certificates: stopped")
		}
	case err := <-notify.Errors:
		if !errors.Is(err, fsnotify.ErrEventOverflow) {
			return fmt.Errorf("watch certificates: %w", err)
		}
	}
	for {
		select {
		case _, ok := <-notify.Events:
			if !ok {
				return errors.New("watch certificates: stopped")
			}
		default:
			return nil
		}
	}
}

// look compares the files with those seen, after all that leads to them is being
// watched, and tells of the difference. Most events concern other files.
func (w *Watcher) look(notify *fsnotify.Watcher, seen map[string]fileID) error {
	want := w.wanted()
	if err := follow(notify, want); err != nil {
		return err
	}
	var news []string
	for _, p := range want {
		var id fileID // of a file that is not there
		if info, err := os.Stat(p); err == nil {
			id = idOf(info)
		}
		if was, known := seen[p]; !known || was != id {
			news = append(news, p)
		}
		seen[p] = id
	}
	maps.DeleteFunc(seen, func(p string, _ fileID) bool { _, is := slices.BinarySearch(want, p); return !is })
	if len(news) > 0 {
		w.changed(news)
	}
	return nil
}

// follow watches the directories that decide what the paths lead to, and no
// others. It goes on until they are the same before and after.
func follow(notify *fsnotify.Watcher, paths []string) error {
	var before []string
	for {
		dirs := directories(paths)
		if slices.Equal(dirs, before) {
			break
		}
		before = dirs
		for _, d := range dirs {
			// One that went meanwhile is not among the next ones.
			if err := notify.Add(d); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
				return fmt.Errorf("%s: %w", d, err)
			}
		}
	}
	for _, d := range notify.WatchList() {
		if _, is := slices.BinarySearch(before, d); !is {
			_ = notify.Remove(d) // gone already, or no harm
		}
	}
	return nil
}

// directories returns the directories in which an entry decides what the paths
// lead to, sorted.
func directories(paths []string) []string {
	dirs := map[string]bool{}
	for _, p := range paths {
		trace(p, dirs)
	}
	return slices.Sorted(maps.Keys(dirs))
}

// trace adds the directory of every symbolic link on the way to the file, of the
// file, and of the first name that is not there.
func trace(path string, dirs map[string]bool) {
	const mostLinks = 40 // MAXSYMLINKS of the kernel
	at, rest := "/", strings.TrimPrefix(filepath.Clean(path), "/")
	for links := 0; rest != ""; {
		name, after, _ := strings.Cut(rest, "/")
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		link := err == nil && info.Mode()&os.ModeSymlink != 0
		if err != nil || link || after == "" {
			dirs[at] = true
		}
		if err != nil {
			return
		}
		if !link {
			at, rest = next, after
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > mostLinks {
			return
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(at, target)
		}
		at, rest = "/", strings.TrimPrefix(filepath.Join(target, after), "/")
	}
}
