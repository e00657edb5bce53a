// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/lab/guest"
	"ovs-ipsec-offload/lab/image"
	"ovs-ipsec-offload/lab/vm"
)

// machineFlags are the flags that all commands which boot a machine share.
type machineFlags struct {
	module      string
	params      []string
	hypervisors int
	memory      int
	cpus        int
	files       []string
	env         []string
	out         string
}

func (f *machineFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.module, "module", os.Getenv("LAB_MODULE"),
		"sources of the simulated NIC's module: a `DIR`, or none (default lab/simnic, or $LAB_MODULE)")
	flags.StringArrayVar(&f.params, "param", nil, "parameter of the simulated NIC's module, `NAME=VALUE` (repeatable)")
	flags.IntVar(&f.memory, "mem", 2048, "memory of the machine in `MiB`")
	flags.IntVar(&f.cpus, "cpus", 2, "processors of the machine")
	flags.StringArrayVar(&f.files, "file", nil, "put a file or directory of the host into the working directory, `SRC[:NAME]` (repeatable)")
	flags.StringArrayVar(&f.env, "env", nil, "environment of the script, `NAME[=VALUE]`; without a value, the host's (repeatable)")
	flags.StringVar(&f.out, "out", "", "put what the script leaves in $LAB_OUT, and the kernel's log, into `DIR`")
	flags.SetInterspersed(false) // what follows the script is the script's
}

// options turns the flags into those of a run; it does not boot anything yet,
// but it builds the image and the module if they are missing.
func (f *machineFlags) options(ctx context.Context, source string, argv []string) (vm.Options, error) {
	var o vm.Options
	if err := vm.CheckQEMU(); err != nil {
		return o, err
	}
	if f.hypervisors < 0 || f.hypervisors == 1 || f.hypervisors > 8 {
		return o, fmt.Errorf("set up the lab: --hypervisors %d: want 2 to 8", f.hypervisors)
	}
	files, err := f.extraFiles()
	if err != nil {
		return o, err
	}
	files = append(files, shippedFiles(source)...)
	env, err := environment(f.env, os.LookupEnv)
	if err != nil {
		return o, err
	}
	if f.out != "" {
		if err := os.MkdirAll(f.out, 0o755); err != nil {
			return o, fmt.Errorf("make directory for results: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("find own program: %w", err)
	}
	machine, modules, err := f.machine(ctx, source)
	if err != nil {
		return o, err
	}
	return vm.Options{
		Machine:  machine,
		Plan:     guest.Plan{Argv: argv, Env: env, Params: f.params, Hypervisors: f.hypervisors},
		Self:     self,
		Files:    append(files, modules...),
		Parallel: os.Getenv("LAB_PARALLEL") == "1",
		Stdout:   os.Stdout, Stderr: os.Stderr, Log: os.Stderr,
		OutDir: f.out,
	}, nil
}

// machine gets the image, the module and the accelerator.
func (f *machineFlags) machine(ctx context.Context, source string) (m vm.Machine, modules []vm.File, err error) {
	cache, err := openCache(os.Stderr)
	if err != nil {
		return m, nil, err
	}
	img, err := cache.Ensure(ctx, image.DefaultRecipe())
	if err != nil {
		return m, nil, err
	}
	modules, err = f.modules(ctx, cache, img, source)
	if err != nil {
		return m, nil, err
	}
	m = vm.Machine{
		Kernel: img.Kernel(), Initrd: img.Initrd(), Disk: img.Disk(), MemoryMiB: f.memory, CPUs: f.cpus,
	}
	m.Accel, err = vm.ChooseAccel(ctx, m, os.Getenv("LAB_ACCEL"), cache.Dir(), os.Stderr)
	return m, modules, err
}

// modules compiles the simulated NIC.
func (f *machineFlags) modules(ctx context.Context, cache *image.Cache, img *image.Image, source string) ([]vm.File, error) {
	dir := f.module
	switch dir {
	case "none":
		return nil, nil
	case "":
		dir = filepath.Join(source, "lab", "simnic")
	}
	ko, err := cache.Module(ctx, img, dir, "simnic")
	if err != nil {
		return nil, err
	}
	return []vm.File{{From: ko, To: path.Base(guest.Module)}}, nil
}

func openCache(log io.Writer) (*image.Cache, error) {
	dir, err := image.DefaultDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	return image.OpenCache(dir, log)
}

// boot runs o. A machine that does not boot may have a damaged image: if the
// checksums say so, the image is built again and the run repeated.
func boot(ctx context.Context, o vm.Options) (int, error) {
	code, err := vm.Run(ctx, o)
	var noBoot *vm.NoBootError
	if !errors.As(err, &noBoot) {
		return code, err
	}
	cache, cacheErr := openCache(os.Stderr)
	if cacheErr != nil {
		return 0, err
	}
	recipe := image.DefaultRecipe()
	_, damage := cache.Verify(recipe)
	if damage == nil {
		return 0, err
	}
	fmt.Fprintf(os.Stderr, "lab: %v: building the image again\n", damage)
	if _, err := cache.Rebuild(ctx, recipe); err != nil {
		return 0, err
	}
	return vm.Run(ctx, o)
}

// extraFiles reads the --file flags.
func (f *machineFlags) extraFiles() ([]vm.File, error) {
	var files []vm.File
	for _, arg := range f.files {
		from, name, ok := strings.Cut(arg, ":")
		if !ok {
			name = filepath.Base(from)
		}
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("read --file %s: the name must be relative to the working directory", arg)
		}
		if _, err := os.Stat(from); err != nil {
			return nil, fmt.Errorf("read --file: %w", err)
		}
		files = append(files, vm.File{From: from, To: path.Join(path.Base(guest.WorkDir), name)})
	}
	return files, nil
}

// shippedFiles are those of the source tree's examples that lab-ike puts where an
// operator would. Without the source tree there are none.
func shippedFiles(source string) []vm.File {
	var files []vm.File
	for _, path := range []string{"strongswan/ovs-ipsec-offload.conf", "libreswan/ovs-ipsec-offload.secrets"} {
		from := filepath.Join(source, "examples", path)
		if _, err := os.Stat(from); err == nil {
			files = append(files, vm.File{From: from, To: "lib/" + filepath.Base(path)})
		}
	}
	return files
}

// environment reads the --env flags.
func environment(flags []string, lookup func(string) (string, bool)) ([]string, error) {
	var env []string
	for _, arg := range flags {
		if name, _, ok := strings.Cut(arg, "="); !ok {
			value, set := lookup(name)
			if !set {
				return nil, fmt.Errorf("read --env %s: not set on the host", name)
			}
			arg = name + "=" + value
		}
		env = append(env, arg)
	}
	return env, nil
}

// buildDaemon compiles the daemon for the machine with build tags and returns the
// program, or none if the source tree has no daemon yet.
func buildDaemon(ctx context.Context, source, tags string, log io.Writer) ([]vm.File, error) {
	const name = "ovs-ipsec-offload"
	if found, _ := filepath.Glob(filepath.Join(source, "cmd", name, "*.go")); len(found) == 0 {
		fmt.Fprintf(log, "lab: WARNING: there is no cmd/%s: going on without the daemon\n", name)
		return nil, nil
	}
	dir, err := checkoutDir(source, tags)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, name)
	part := fmt.Sprintf("%s.%d", program, os.Getpid())
	defer func() { _ = os.Remove(part) }() // not there any more if all went well
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-o", part, "./cmd/"+name)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile %s: %w\n%s", name, err, out)
	}
	if err := os.Rename(part, program); err != nil {
		return nil, fmt.Errorf("compile %s: %w", name, err)
	}
	return []vm.File{{From: program, To: "bin/" + name, Mode: 0o755}}, nil
}

// checkoutDir is where programs compiled from this source tree with those tags are
// kept.
func checkoutDir(source, tags string) (string, error) {
	cache, err := image.DefaultDir(os.Getenv)
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(source)
	if err != nil {
		return "", err
	}
	if tags != "" {
		abs += "\x00" + tags
	}
	sum := sha256.Sum256([]byte(abs))
	dir := filepath.Join(cache, "bin-"+hex.EncodeToString(sum[:8]))
	return dir, os.MkdirAll(dir, 0o755)
}
