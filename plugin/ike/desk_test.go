// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"log/slog"
	"testing"
)

// Who wants Conns is told of what it cannot know.
func TestDeskTellsNews(t *testing.T) {
	told := 0
	d := NewDesk(slog.New(slog.DiscardHandler), func() { told++ }, nil)
	phases := func(phases ...string) State {
		s := State{Daemon: "charon", Conns: map[string]ConnState{}}
		for i, phase := range phases {
			if phase != "" {
				s.Conns[string(rune('a'+i))] = ConnState{Phase: phase}
			}
		}
		return s
	}
	half := phases(Up, "", Up, Loading, Loading)
	half.Conns["e"] = ConnState{Phase: Loading, Children: []Child{{Name: Out}}}
	refused := phases(Up, Waiting)
	refused.Conns["b"] = ConnState{Phase: Waiting, Problem: &Problem{Code: CodeRefused}}
	for _, step := range []struct {
		what  string
		state State
		news  bool
	}{
		{"the daemon answers", phases(), true},
		{"nothing", phases(), false},
		{"one begins", phases(Loading), false},
		{"it goes on", phases(Connecting), false},
		{"it is up", phases(Up), true},
		{"another one is refused at once", refused, true},
		{"it is given up", phases(Up), true},
		{"one is up from the start", phases(Up, "", Up), true},
		{"one failed from the start", phases(Up, Failed, Up), true},
		{"one goes, another one begins", phases(Up, "", Up, Loading), true},
		{"half of one stands already", half, true},
		{"it goes", phases(Up, "", Up, Loading), true},
		{"one comes down", phases(Waiting, "", Up, Loading), true},
	} {
		before := told
		if d.Publish(step.state); (told > before) != step.news {
			t.Errorf("%s: told %d times", step.what, told-before)
		}
	}
}
