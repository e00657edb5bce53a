// SPDX-License-Identifier: Apache-2.0

//go:build lab

// Package scenarios runs every scenario of this directory in a machine of its own.
package scenarios

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// skipped marks scenarios that are for people or for `make bench`.
const skipped = "\n# not in make test"

func TestScenarios(t *testing.T) {
	scripts, err := filepath.Glob("*.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		if script == "lib.sh" || strings.Contains(string(text), skipped) {
			continue
		}
		t.Run(strings.TrimSuffix(script, ".sh"), func(t *testing.T) { run(t, script) })
	}
}

// run runs a scenario; its output is shown when it fails, or with -v.
func run(t *testing.T, script string) {
	cmd := exec.CommandContext(t.Context(), "../../hack/scenario", filepath.Join("lab", "scenarios", script))
	// An interrupt lets the lab take its machine down.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}
