// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLockInstance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	lock, err := lockInstance(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockInstance(dir)
	if want := fmt.Sprintf("already running with %s (pid %d)", dir, os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("second instance: %v, want %q", err, want)
	}
	if code := exitCode(err); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	lock, err = lockInstance(dir)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	lock.Close()
}

func TestLockInstanceNeedsPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write anywhere")
	}
	_, err := lockInstance("/run/no-permission-for-this")
	if exitCode(err) != exitUnreachable || !strings.Contains(describe(err), "permission denied; run it as root") {
		t.Errorf("code %d: %s", exitCode(err), describe(err))
	}
}
