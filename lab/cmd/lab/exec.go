// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/lab/guest"
	"ovs-ipsec-offload/lab/vm"
)

// execFlags are the flags of `lab exec`.
type execFlags struct {
	machineFlags
	topology bool
}

// newExec returns the verb exec.
func newExec(source *string, code *int) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] BINARY [ARG...]",
		Short: "Run a Go test binary as root in the machine (for `go test -exec`)",
		Long: `Exec is made for "go test -exec .../lab/exec ./pkg": it runs the test binary as root in a machine with
the simulated NIC's module loaded, brings along the package's testdata, and brings profiles back.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			*code, err = f.run(cmd.Context(), *source, args)
			return err
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.topology, "topology", false, "bring the topology up")
	cmd.Flags().IntVar(&f.hypervisors, "hypervisors", 2, "size of the topology, 2 to 8")
	return cmd
}

// run runs a test binary in the machine and returns its exit code.
func (f *execFlags) run(ctx context.Context, source string, args []string) (_ int, err error) {
	if !f.topology {
		f.hypervisors = 0
	}
	cwd, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	test := readTestFlags(args[1:], cwd)
	argv, binary, err := scriptFile(append([]string{args[0]}, test.args...))
	if err != nil {
		return 0, err
	}
	if f.out == "" && len(test.profiles) > 0 {
		if f.out, err = os.MkdirTemp("", "lab-out-"); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(f.out)) }()
	}
	o, err := f.options(ctx, source, argv)
	if err != nil {
		return 0, err
	}
	o.Files = append(o.Files, binary)
	if _, ok := test.profiles["gocoverdir"]; ok {
		o.Files = append(o.Files, vm.File{To: path.Join(path.Base(guest.OutDir), "gocoverdir")})
	}
	if _, err := os.Stat("testdata"); err == nil {
		o.Files = append(o.Files, vm.File{From: "testdata", To: path.Join(path.Base(guest.WorkDir), "testdata")})
	}
	// The binary ends itself when its time is over, and tells where it hung.
	o.Limits = vm.DefaultLimits(f.hypervisors, test.timeout+time.Minute)
	code, err := boot(ctx, o)
	return code, errors.Join(err, fetchProfiles(f.out, test.profiles))
}

// testFlags are a test binary's arguments, fit for the machine.
type testFlags struct {
	args     []string
	profiles map[string]string // name below $LAB_OUT: path on the host
	timeout  time.Duration
}

// profileFlags name files, and one directory, that a test binary writes.
var profileFlags = []string{
	"coverprofile", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace", "gocoverdir",
}

// readTestFlags rewrites the -test flags that name files of the host. The log
// of files the test has read is dropped, so that go does not cache a result
// that depends on more than files.
func readTestFlags(args []string, cwd string) testFlags {
	t := testFlags{profiles: map[string]string{}, timeout: 10 * time.Minute}
	dir := cwd
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "-test.outputdir="); ok {
			dir = value
		}
	}
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "-test."), "=")
		switch {
		case !strings.HasPrefix(arg, "-test."):
			t.args = append(t.args, arg)
		case name == "testlogfile" || name == "outputdir":
		case slices.Contains(profileFlags, name):
			if !filepath.IsAbs(value) {
				value = filepath.Join(dir, value)
			}
			t.profiles[name] = value
			t.args = append(t.args, fmt.Sprintf("-test.%s=%s", name, path.Join(guest.OutDir, name)))
		case name == "timeout":
			t.setTimeout(value)
			t.args = append(t.args, arg)
		default:
			t.args = append(t.args, arg)
		}
	}
	return t
}

// setTimeout takes over the time limit of the test binary, of which 0 is none.
func (t *testFlags) setTimeout(value string) {
	d, err := time.ParseDuration(value)
	if err != nil {
		return // the binary will say so
	}
	if t.timeout = d; d == 0 {
		t.timeout = 24 * time.Hour
	}
}

// fetchProfiles moves profiles to where the host wants them. A binary that
// failed early may have written none.
func fetchProfiles(out string, profiles map[string]string) error {
	var errs []error
	for name, to := range profiles {
		err := copyProfile(filepath.Join(out, name), to)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("bring back %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func copyProfile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
