// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"errors"
	"fmt"

	"github.com/fsnotify/fsnotify"
)

// Watch calls changed whenever something happens in the directory, until ctx
// ends. It is a hint that saves waiting for the next round: Lookup looks at the
// files themselves. Names are watched through their directory, since an editor
// or a configuration tool replaces files rather than writes them.
func Watch(ctx context.Context, dir string, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch key sets: %w", err)
	}
	defer w.Close()
	if err := w.Add(dir); err != nil {
		return fmt.Errorf("watch key sets: %s: %w", dir, err)
	}
	changed() // whatever came before the watch stood
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("watch key sets: stopped")
			}
			changed()
			if len(w.WatchList()) == 0 {
				return fmt.Errorf("watch key sets: %s is gone", dir)
			}
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch key sets: %s: %w", dir, err)
			}
			changed()
		}
	}
}
