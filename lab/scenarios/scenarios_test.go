// SPDX-License-Identifier: Apache-2.0

//go:build lab

// Package scenarios runs every scenario of this directory in a machine of its own.
package scenarios

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	var failed []string
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		if script == "lib.sh" || strings.Contains(string(text), skipped) {
			continue
		}
		t.Run(strings.TrimSuffix(script, ".sh"), func(t *testing.T) {
			if why := run(t, script); why != "" {
				failed = append(failed, script+"\n"+why)
			}
		})
	}
	// An hour of output lies between the reasons and whoever looks for them.
	for _, why := range failed {
		t.Log(why)
	}
	for _, why := range failed {
		t.Log(verdict(why))
	}
}

// verdict returns the script and the line that says why it failed, of which the very end
// of the output is to have one for each.
func verdict(why string) string {
	lines := strings.Split(why, "\n")
	return lines[0] + ": " + strings.TrimPrefix(lines[failure(lines)], "FAIL: ")
}

// failure returns the index of the line that says what failed, or of the last one.
func failure(lines []string) int {
	if at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "FAIL: ") }); at >= 0 {
		return at
	}
	return len(lines) - 1
}

// run runs a scenario; its output is shown when it fails, or with -v. It returns the
// part that says why it failed.
func run(t *testing.T, script string) (why string) {
	out, err := play(t, script)
	if err != nil && bytes.Contains(out, []byte(patched)) {
		t.Logf("%s\nthe emulator ran an instruction while the kernel patched it: once more", out)
		out, err = play(t, script)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("%s: %v", script, err)
		return reason(string(out))
	}
	return ""
}

// reason returns the lines of a scenario's output around its failure, or the last ones.
func reason(out string) string {
	const before, after = 6, 14
	lines := strings.Split(strings.TrimSpace(out), "\n")
	at := failure(lines)
	return strings.Join(lines[max(0, at-before):min(len(lines), at+after)], "\n")
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

func TestVerdict(t *testing.T) {
	if got := verdict("a.sh\nb\nFAIL: not within 5 s: c\nd"); got != "a.sh: not within 5 s: c" {
		t.Errorf("%q", got)
	}
	if got := verdict("a.sh\nb\nlab: the machine died"); got != "a.sh: lab: the machine died" {
		t.Errorf("%q", got)
	}
}

func TestReason(t *testing.T) {
	if got := reason("a\nFAIL: not within 5 s: b\n-- daemon on hv1:\n"); got != "a\nFAIL: not within 5 s: b\n-- daemon on hv1:" {
		t.Errorf("%q", got)
	}
	if got := reason(strings.Repeat("x\n", 50) + "lab: the machine died\n"); !strings.HasSuffix(got, "x\nlab: the machine died") || strings.Count(got, "\n") != 6 {
		t.Errorf("%q", got)
	}
}
