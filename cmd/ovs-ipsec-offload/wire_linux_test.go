// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/plugin"
)

// A refusal keeps its code and all its text on its way into the core.
func TestFenceRefusalIsCoded(t *testing.T) {
	refused := &devlink.FenceError{Link: devlink.Link{Ifindex: 7, Name: "pf0"}}
	p, ok := errors.AsType[*plugin.Problem](coded(errors.Join(refused, errors.New("and something else"))))
	if !ok || p.Code != "GATE_FENCE_BUSY" || !strings.HasPrefix(p.Text, "turn hw-tc-offload of pf0 off: ") || !strings.HasSuffix(p.Text, "; and something else") {
		t.Errorf("got %+v", p)
	}
	if coded(nil) != nil {
		t.Error("nothing became a problem")
	}
}
