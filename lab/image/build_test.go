// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHashCoversTheRecipe(t *testing.T) {
	seen := map[string]string{DefaultRecipe().Hash(): "default"}
	for name, change := range map[string]func(*Recipe){
		"suite":    func(r *Recipe) { r.Suite = "forky" },
		"arch":     func(r *Recipe) { r.Arch = "arm64" },
		"packages": func(r *Recipe) { r.Packages = r.Packages[1:] },
		"beside":   func(r *Recipe) { r.Beside = nil },
		"exclude":  func(r *Recipe) { r.Exclude = nil },
		"modules":  func(r *Recipe) { r.BootModules = append(r.BootModules, "xfs") },
		"init":     func(r *Recipe) { r.Init += "\n" },
		"spare":    func(r *Recipe) { r.SpareMiB++ },
		"format":   func(r *Recipe) { r.Format++ },
	} {
		r := DefaultRecipe()
		change(&r)
		if other, ok := seen[r.Hash()]; ok {
			t.Errorf("%s and %s have the same hash", name, other)
		}
		seen[r.Hash()] = name
	}
}

func TestBootstrapArgs(t *testing.T) {
	r := Recipe{Suite: "trixie", Arch: "amd64", Packages: []string{"a", "b"}, Exclude: []string{"/usr/share/doc/*"}}
	want := []string{
		"--mode=root", "--variant=minbase", "--architectures=amd64",
		`--aptopt=Acquire::Languages "none"`, `--aptopt=APT::Install-Recommends "false"`,
		"--include=a,b", "--keyring=/keys", "--dpkgopt=path-exclude=/usr/share/doc/*",
		"trixie", "/tree", // no mirror: the host's default
	}
	if d := cmp.Diff(want, bootstrapArgs(r, "/tree", "/keys")); d != "" {
		t.Error(d)
	}
	if args := bootstrapArgs(r, "/tree", ""); slices.Contains(args, "--keyring=") {
		t.Error("an empty keyring is passed")
	}
}

func TestCheckHostNamesWhatIsMissing(t *testing.T) {
	without := func(missing ...string) func(string) (string, error) {
		return func(name string) (string, error) {
			if slices.Contains(missing, name) {
				return "", errors.New("not found")
			}
			return "/usr/bin/" + name, nil
		}
	}
	if err := checkHost(0, without()); err != nil {
		t.Error(err)
	}
	err := checkHost(1000, without("mmdebstrap", "mke2fs"))
	if err == nil || !strings.HasSuffix(err.Error(), "apt-get install mmdebstrap e2fsprogs") {
		t.Errorf("error %v", err)
	}
	if err := checkHost(1000, without()); err == nil || !strings.HasPrefix(err.Error(), "needs root") {
		t.Errorf("error %v", err)
	}
}

func TestModuleSources(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.c", "a.h", "Makefile", "a.o", "sim.mod.c", ".a.o.cmd", "sim.ko", "README.md"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	src, err := moduleSources(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := sources{"a.c": []byte("a.c"), "a.h": []byte("a.h"), "Makefile": []byte("Makefile")}
	if d := cmp.Diff(want, src); d != "" {
		t.Error(d)
	}
	for _, other := range []sources{
		{"a.c": []byte("a.c"), "a.h": []byte("a.h"), "Makefile": []byte("changed")},
		{"b.c": []byte("a.c"), "a.h": []byte("a.h"), "Makefile": []byte("Makefile")},
		{"a.c": []byte("a.c"), "a.h": []byte("a.h")},
	} {
		if other.hash() == src.hash() {
			t.Errorf("%v has the same hash", other)
		}
	}
}

func TestTreeMiB(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 3 << 20, "b": 1, "empty": 0} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := treeMiB(dir); got != 3 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{{"a\nb\nc\n", 2, "b\nc"}, {"a\n", 5, "a"}, {"", 3, ""}} {
		if got := string(lastLines([]byte(c.text), c.n)); got != c.want {
			t.Errorf("last %d of %q: %q", c.n, c.text, got)
		}
	}
}
