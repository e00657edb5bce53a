// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestManualListsEveryCode keeps docs/status.md complete: operators look up there
// what they find in a status or in the database.
func TestManualListsEveryCode(t *testing.T) {
	manual, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile(`"((?:HOST|LEAK|SAVED|OWNER|REQID|GUARD|GATE|FOREIGN|OPT|CERT|PSK|PAIR|PLAIN|NO|SA|NIC|DB|FLOWS|TABLES|KEY|XFRM|IKE|HOLD|PLAN|RETROFIT|ROTATE|STRICT|UNINSTALL)_[A-Z_]+)"`)
	found := 0
	for _, dir := range []string{"plugin", "ovsdb", "devlink", "xfrm", "tc", "cmd"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range code.FindAllSubmatch(text, -1) {
				found++
				if !strings.Contains(string(manual), "`"+string(m[1])+"`") {
					t.Errorf("%s: docs/status.md does not explain %s", path, m[1])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 40 {
		t.Errorf("found %d codes, expected more: is the pattern still right?", found)
	}
}
