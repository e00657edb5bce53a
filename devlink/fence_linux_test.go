// SPDX-License-Identifier: Apache-2.0

package devlink

import (
	"context"
	"errors"
	"testing"
)

func TestFenceOfNothing(t *testing.T) {
	if changed, err := (Fence{}).Set(t.Context(), []int{1 << 30}, false); changed != nil || err != nil {
		t.Errorf("a device that is gone: %v, %v", changed, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, devs := range [][]int{nil, {1}} {
		if _, err := (Fence{}).Set(ctx, devs, false); !errors.Is(err, context.Canceled) {
			t.Errorf("called off with %v: %v", devs, err)
		}
	}
}

func TestFenceErrorSaysWhatToDo(t *testing.T) {
	for want, e := range map[string]FenceError{
		"turn hw-tc-offload of d0 on: its driver cannot switch it":                 {Link{7, "d0"}, true, true},
		"turn hw-tc-offload of d0 on: its driver refused; the kernel log says why": {Link{7, "d0"}, true, false},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
