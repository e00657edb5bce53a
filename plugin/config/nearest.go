// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// suggest offers the setting that name was meant for, if it is a slip of one: no
// more than a third of its letters differ, dashes and underscores apart.
func suggest(known []setting, name string) string {
	bare := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", "::", "").Replace(strings.ToLower(s))
	}
	near := nearest(known, name)
	if distance(bare(near), bare(name))*3 > len(bare(near)) {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", near)
}

// nearest returns the setting whose name takes the fewest edits from name.
func nearest(known []setting, name string) string {
	best, least := "", int(^uint(0)>>1)
	for _, s := range known {
		if d := distance(s.name, name); d < least {
			best, least = s.name, d
		}
	}
	return best
}

// distance is Levenshtein's: how many letters to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
