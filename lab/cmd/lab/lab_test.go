// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/lab/vm"
)

func TestReadTestFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want testFlags
	}{
		{
			name: "as go test has it",
			args: []string{"-test.testlogfile=/tmp/log", "-test.paniconexit0", "-test.timeout=10m0s", "-test.v=true", "-mine=/x"},
			want: testFlags{
				args:    []string{"-test.paniconexit0", "-test.timeout=10m0s", "-test.v=true", "-mine=/x"},
				timeout: 10 * time.Minute,
			},
		}, {
			name: "coverage",
			args: []string{"-test.coverprofile=/tmp/b001/c.out", "-test.gocoverdir=/tmp/b001/d", "-test.timeout=30s"},
			want: testFlags{
				args: []string{
					"-test.coverprofile=/lab/out/coverprofile", "-test.gocoverdir=/lab/out/gocoverdir", "-test.timeout=30s",
				},
				profiles: map[string]string{"coverprofile": "/tmp/b001/c.out", "gocoverdir": "/tmp/b001/d"},
				timeout:  30 * time.Second,
			},
		}, {
			name: "relative to the output directory, wherever that comes",
			args: []string{"-test.cpuprofile=cpu", "-test.outputdir=/here"},
			want: testFlags{
				args: []string{"-test.cpuprofile=/lab/out/cpuprofile"}, timeout: 10 * time.Minute,
				profiles: map[string]string{"cpuprofile": "/here/cpu"},
			},
		}, {
			name: "relative to the package",
			args: []string{"-test.trace=t"},
			want: testFlags{
				args: []string{"-test.trace=/lab/out/trace"}, timeout: 10 * time.Minute,
				profiles: map[string]string{"trace": "/pkg/t"},
			},
		}, {
			name: "no time limit", args: []string{"-test.timeout=0"},
			want: testFlags{args: []string{"-test.timeout=0"}, timeout: 24 * time.Hour},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want.profiles == nil {
				c.want.profiles = map[string]string{}
			}
			got := readTestFlags(c.args, "/pkg")
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(testFlags{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFetchProfiles(t *testing.T) {
	out, to := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(out, "coverprofile"), []byte("mode: set\n"), 0o644))
	must(t, os.Mkdir(filepath.Join(out, "gocoverdir"), 0o755))
	must(t, os.WriteFile(filepath.Join(out, "gocoverdir", "covmeta"), []byte("meta"), 0o644))
	must(t, os.Mkdir(filepath.Join(to, "d"), 0o755))
	err := fetchProfiles(out, map[string]string{
		"coverprofile": filepath.Join(to, "c.out"), "gocoverdir": filepath.Join(to, "d"), "trace": filepath.Join(to, "none"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"c.out": "mode: set\n", "d/covmeta": "meta"} {
		if text, err := os.ReadFile(filepath.Join(to, name)); string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestScriptFile(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"plain.sh":    {"echo hi\n", []string{"bash", "/lab/work/plain.sh", "a b"}},
		"script.py":   {"#!/usr/bin/python3\n", []string{"/lab/work/script.py", "a b"}},
		"binary.test": {"\x7fELF....", []string{"/lab/work/binary.test", "a b"}},
		"empty":       {"", []string{"bash", "/lab/work/empty", "a b"}},
	} {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(c.text), 0o600))
		argv, file, err := scriptFile([]string{path, "a b"})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, argv); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(vm.File{From: path, To: "work/" + name, Mode: 0o755}, file); d != "" {
			t.Error(d)
		}
	}
	if _, _, err := scriptFile([]string{dir + "/missing"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestBesideScript(t *testing.T) {
	top, elsewhere := t.TempDir(), t.TempDir()
	inside := filepath.Join(top, "lab", "scenarios")
	must(t, os.MkdirAll(inside, 0o755))
	for script, want := range map[string][]vm.File{
		filepath.Join(inside, "s.sh"):    {{From: inside, To: "work"}},
		filepath.Join(top, "s.sh"):       nil, // would bring the whole tree
		filepath.Join(elsewhere, "s.sh"): nil,
	} {
		got, err := besideScript(top, script)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", script, d)
		}
	}
}

func TestExtraFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	must(t, os.WriteFile(file, nil, 0o600))
	f := machineFlags{files: []string{file, file + ":sub/name"}}
	got, err := f.extraFiles()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]vm.File{{From: file, To: "work/f"}, {From: file, To: "work/sub/name"}}, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{file + ":/etc/passwd", file + ":../x", dir + "/missing"} {
		f := machineFlags{files: []string{bad}}
		if _, err := f.extraFiles(); err == nil {
			t.Errorf("--file %s was accepted", bad)
		}
	}
}

func TestEnvironmentFlags(t *testing.T) {
	lookup := func(name string) (string, bool) { return "from host", name == "SET" }
	got, err := environment([]string{"A=b=c", "SET", "EMPTY="}, lookup)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"A=b=c", "SET=from host", "EMPTY="}, got); d != "" {
		t.Error(d)
	}
	if _, err := environment([]string{"UNSET"}, lookup); err == nil {
		t.Error("an unset variable was accepted")
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		log  string
	}{
		{&vm.CrashError{Reason: "it died", KernelLog: "BUG: here\n"}, exitCrash, "BUG: here"},
		{fmt.Errorf("wrapped: %w", &vm.CrashError{Reason: "it died", KernelLog: "BUG: here\n"}), exitCrash, "BUG: here"},
		{&vm.SetupError{Reason: "no NIC", KernelLog: "simnic: no\n"}, exitLab, "simnic: no"},
		{&vm.NoBootError{Reason: "dark", Console: "Loading\n"}, exitLab, "Loading"},
		{errors.New("no image"), exitLab, ""},
	} {
		var out bytes.Buffer
		explain(&out, c.err)
		if got := exitCodeOf(c.err); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
		if !strings.HasPrefix(out.String(), "lab: "+c.err.Error()) || !strings.Contains(out.String(), c.log) {
			t.Errorf("%v: said %q", c.err, out.String())
		}
		if c.log == "" && strings.Contains(out.String(), "kernel log") {
			t.Errorf("%v: shows a kernel log of no machine", c.err)
		}
	}
}

// Flags after the script are the script's.
func TestFlagsEndAtTheScript(t *testing.T) {
	cmd := newRun(new(string), new(int))
	if err := cmd.ParseFlags([]string{"--bare", "--param", "a=1", "script", "--timeout", "3"}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"script", "--timeout", "3"}, cmd.Flags().Args()); d != "" {
		t.Error(d)
	}
}

func TestBadUse(t *testing.T) {
	script := filepath.Join(t.TempDir(), "s")
	must(t, os.WriteFile(script, nil, 0o600))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run"}, "requires at least 1 arg"},
		{[]string{"run", script + "-missing"}, "no such file"},
		{[]string{"run", "--timeout", "0", script}, "--timeout 0"},
		{[]string{"run", "--hypervisors", "9", script}, "--hypervisors 9"},
		{[]string{"run", "--hypervisors", "1", script}, "--hypervisors 1"},
		{[]string{"run", "--unknown", script}, "unknown flag"},
	} {
		root := newRoot(new(int))
		root.SetArgs(c.args)
		err := root.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q", c.args, err, c.want)
		}
	}
}

// must ends the test if preparing it failed.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
