// SPDX-License-Identifier: Apache-2.0

package rules

import "strings"

// parseState reads the module's state file: a key and a value in each line.
func parseState(text string) map[string]string {
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			values[key] = value
		}
	}
	return values
}

// parseLog reads the texts of the module's log file, whose lines have a number
// and a time before them.
func parseLog(text string) []string {
	var events []string
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(parts) == 3 {
			events = append(events, parts[2])
		}
	}
	return events
}
