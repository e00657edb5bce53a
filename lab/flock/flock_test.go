// SPDX-License-Identifier: Apache-2.0

package flock

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSecondWaitsForFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Acquire(t.Context(), path, func() { t.Error("the first waited") })
	if err != nil {
		t.Fatal(err)
	}
	waiting, got := make(chan struct{}), make(chan *Lock)
	go func() {
		second, err := Acquire(t.Context(), path, func() { close(waiting) })
		if err != nil {
			t.Error(err)
		}
		got <- second
	}()
	<-waiting // it has found the lock taken
	select {
	case <-got:
		t.Fatal("two hold the lock")
	default:
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := <-got
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestReleasedLockIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	for range 2 {
		l, err := Acquire(t.Context(), path, func() { t.Error("waited for a free lock") })
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoDirectory(t *testing.T) {
	if _, err := Acquire(t.Context(), filepath.Join(t.TempDir(), "missing", "lock"), func() {}); err == nil {
		t.Fatal("no error")
	}
}

// A lock that is not had in time is given up, and its holder keeps it.
func TestAcquireEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Acquire(t.Context(), path, func() {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Acquire(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Acquire(t.Context(), path, func() {})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
