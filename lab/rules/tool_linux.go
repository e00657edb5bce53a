// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// toolError is what a tool said when it failed.
type toolError struct {
	line string
	text string
}

// Error returns the command and what it wrote.
func (e *toolError) Error() string {
	return fmt.Sprintf("run %s: %s", e.line, strings.TrimSpace(e.text))
}

// tool runs a program and gives what it wrote to its standard output. If it
// fails, the error is a *toolError.
func tool(ctx context.Context, args ...string) (string, error) { return toolInput(ctx, "", args...) }

// toolInput is tool with something on standard input.
func toolInput(ctx context.Context, input string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", &toolError{line: redact(args), text: errs.String() + out.String()}
	}
	if err != nil {
		return "", fmt.Errorf("run %s: %w", args[0], err)
	}
	return out.String(), nil
}

// redact gives a command line without keys.
func redact(args []string) string {
	shown := append([]string{}, args...)
	for i, a := range shown {
		if strings.HasPrefix(a, "0x") && len(a) > 18 {
			shown[i] = "0x…"
		}
	}
	return strings.Join(shown, " ")
}

// batch gives a tool many commands at once. One that begins with -n is for
// another namespace and ends the batch before it.
func batch(ctx context.Context, name, ns string, lines ...string) error {
	start := 0
	flush := func(end int) error {
		if start == end {
			return nil
		}
		_, err := toolInput(ctx, strings.Join(lines[start:end], "\n")+"\n", name, "-n", ns, "-batch", "-")
		start = end
		return err
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, "-n ") {
			continue
		}
		if err := flush(i); err != nil {
			return err
		}
		start = i + 1
		if _, err := tool(ctx, append([]string{name}, strings.Fields(line)...)...); err != nil {
			return err
		}
	}
	return flush(len(lines))
}
