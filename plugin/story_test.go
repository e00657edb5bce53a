// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// story is what happens in a scenario, without what is looked at.
type story struct {
	name  string
	lines [][]string
}

// looking are the commands that change nothing.
func looking() []string {
	return []string{"plan", "settled", "status", "reports", "send", "receive", "nic", "kernel", "cmp", "cp", "stdout", "!"}
}

// stories reads all scenarios that go without faults.
func stories(t testing.TB) []story {
	t.Helper()
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("find scenarios: %v, %d files", err, len(files))
	}
	var all []story
	for _, f := range files {
		a, err := txtar.ParseFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(a.Comment), "\nfault ") {
			continue // it has faults of its own
		}
		if strings.Contains(string(a.Comment), "\ntraffic ") {
			continue // its end is a matter of figures
		}
		s := story{name: strings.TrimSuffix(filepath.Base(f), ".txtar")}
		for line := range strings.Lines(string(a.Comment)) {
			words := strings.Fields(line)
			if len(words) > 0 && words[0][0] != '#' && !slices.Contains(looking(), words[0]) {
				s.lines = append(s.lines, words)
			}
		}
		all = append(all, s)
	}
	return all
}

// play lets the story happen, with a minute after each line in which what failed
// once is tried again.
func (s story) play(r *rig) error {
	cmds := commands()
	for _, l := range s.lines {
		if err := cmds[l[0]](r, l[1:], io.Discard); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(l, " "), err)
		}
		if err := r.breathe(); err != nil {
			return fmt.Errorf("after %s: %w", strings.Join(l, " "), err)
		}
	}
	return nil
}

// breathe lets a minute pass, in which what failed twice is tried a third time.
func (r *rig) breathe() error {
	for range 3 {
		r.Clock.Advance(20 * time.Second)
		if err := r.settle(); err != nil {
			return err
		}
		if !r.Faults.Struck() {
			r.Clock.Advance(40 * time.Second)
			return r.settle()
		}
	}
	return nil
}
