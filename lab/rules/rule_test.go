// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAllRulesParse(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 35 {
		t.Errorf("only %d rules", len(all))
	}
	for _, r := range all {
		if r.About == "" {
			t.Errorf("%s says nothing about itself", r.ID)
		}
		for _, s := range r.Steps {
			if s.Request != nil {
				checkRoundTrip(t, s.Request.Command)
			}
		}
	}
}

// checkRoundTrip sees to it that a command in words is the same command.
func checkRoundTrip(t *testing.T, c Command) {
	t.Helper()
	if _, knob := c.(KnobSet); knob {
		return
	}
	again, err := ParseCommand(c.String())
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	if diff := cmp.Diff(c, again, comparable); diff != "" {
		t.Errorf("%v changed when read again:\n%s", c, diff)
	}
}

// TestRulesListed sees to it that the list of rules and the scripts are about
// the same rules. The list lies beside, in the source tree only.
func TestRulesListed(t *testing.T) {
	list, err := os.ReadFile("../simnic/RULES.md")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no source tree here")
	}
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^\| \[([a-z0-9-]+)\]`).FindAllSubmatch(list, -1) {
		listed[string(m[1])]++
	}
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	scripts := map[string]int{}
	for _, r := range all {
		scripts[r.ID]++
	}
	if diff := cmp.Diff(scripts, listed); diff != "" {
		t.Errorf("scripts and RULES.md differ:\n%s", diff)
	}
}
