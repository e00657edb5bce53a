// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
	if diff := cmp.Diff(c, again, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("%v changed when read again:\n%s", c, diff)
	}
}
