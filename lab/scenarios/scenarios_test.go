// SPDX-License-Identifier: Apache-2.0

//go:build lab

// Package scenarios runs every scenario of this directory in a machine of its own.
package scenarios

import (
	"bytes"
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
	out, err := play(t, script)
	if err != nil && bytes.Contains(out, []byte(patched)) {
		t.Logf("%s\nthe emulator ran an instruction while the kernel patched it: once more", out)
		out, err = play(t, script)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// patched is how a guest's kernel dies when QEMU's TCG, with two processors, runs the
// breakpoint by which the kernel replaces an instruction (text_poke_bp in
// arch/x86/kernel/alternative.c) after the kernel has forgotten it: it was seen once
// in some hundred machines, in nf_conntrack's jump labels.
const patched = "Oops: int3"

func play(t *testing.T, script string) ([]byte, error) {
	cmd := exec.CommandContext(t.Context(), "../../hack/scenario", filepath.Join("lab", "scenarios", script))
	// An interrupt lets the lab take its machine down.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.CombinedOutput()
}
