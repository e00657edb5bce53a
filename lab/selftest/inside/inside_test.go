// SPDX-License-Identifier: Apache-2.0

//go:build lab

// Package inside is run by selftest through lab/exec, inside the machine.
package inside

import (
	"os"
	"strings"
	"testing"
)

func TestInside(t *testing.T) {
	version, err := os.ReadFile("/proc/version")
	if !strings.HasPrefix(string(version), "Linux version 6.12.") {
		t.Errorf("kernel %q, %v", version, err)
	}
	if os.Getuid() != 0 {
		t.Errorf("uid %d", os.Getuid())
	}
	if _, err := os.Stat("/sys/module/simnic"); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile("testdata/greeting")
	if string(text) != "from the host\n" {
		t.Errorf("greeting %q, %v", text, err)
	}
	if os.Getenv("LAB_SELFTEST") == "fail" {
		t.Error("told to fail")
	}
}
