// SPDX-License-Identifier: Apache-2.0

//go:build lab && linux

package rules

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// TestKernel runs all rules against the simulated NIC:
//
//	CGO_ENABLED=0 go test -tags lab -exec lab/exec ./lab/rules
func TestKernel(t *testing.T) {
	if _, err := os.Stat(paramDir); err != nil || os.Geteuid() != 0 {
		t.Fatal("needs root and the module simnic: go test -tags lab -exec lab/exec ./lab/rules")
	}
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	nic, err := NewKernel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nic.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, r := range all {
		t.Run(r.ID, func(t *testing.T) {
			if err := (Runner{nic, waitForKernel}).Run(ctx, r); err != nil {
				t.Error(err)
			}
		})
	}
}

// waitForKernel gives the kernel's deferred work 10 s in all.
func waitForKernel(ctx context.Context, tries int) error {
	if tries >= 200 {
		return errors.New("it has had its time")
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}
