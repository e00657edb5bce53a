// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/lab/guest"
	"ovs-ipsec-offload/lab/vm"
)

// runFlags are the flags of `lab run`.
type runFlags struct {
	machineFlags
	bare       bool
	noDaemon   bool
	daemonTags string
	timeout    int
}

// newRun returns the verb run.
func newRun(source *string, code *int) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] SCRIPT [ARG...]",
		Short: "Run a script of the host as root in the machine",
		Long: `Run boots a machine, runs SCRIPT in it as root and passes on its output and exit code.
The simulated NIC's module is loaded, the daemon is on PATH and, without --bare, the topology is up.
A script without "#!" is run by bash. Exit codes of the lab's own: 123 the machine's kernel died or
reported a fault, 124 the time was over, 125 the lab could not be set up.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			*code, err = f.run(cmd.Context(), *source, args)
			return err
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&f.bare, "bare", false, "no topology, only the module")
	cmd.Flags().IntVar(&f.hypervisors, "hypervisors", 2, "size of the topology, 2 to 8")
	cmd.Flags().BoolVar(&f.noDaemon, "no-daemon", false, "do not compile the daemon; it is not on PATH")
	cmd.Flags().StringVar(&f.daemonTags, "daemon-tags", "", "build `TAGS` of the daemon: faultpoint")
	cmd.Flags().IntVar(&f.timeout, "timeout", 600, "time for the script in `seconds`")
	return cmd
}

// run runs a script in the machine and returns its exit code.
func (f *runFlags) run(ctx context.Context, source string, args []string) (int, error) {
	if f.bare {
		f.hypervisors = 0
	}
	if f.timeout <= 0 {
		return 0, fmt.Errorf("run script: --timeout %d: want more than 0", f.timeout)
	}
	argv, script, err := scriptFile(args)
	if err != nil {
		return 0, err
	}
	beside, err := besideScript(source, args[0])
	if err != nil {
		return 0, err
	}
	o, err := f.options(ctx, source, argv)
	if err != nil {
		return 0, err
	}
	if !f.noDaemon {
		daemon, err := buildDaemon(ctx, source, f.daemonTags, os.Stderr)
		if err != nil {
			return 0, err
		}
		o.Files = append(o.Files, daemon...)
	}
	o.Files = append(append(o.Files, beside...), script)
	o.Limits = vm.DefaultLimits(f.hypervisors, time.Duration(f.timeout)*time.Second)
	return boot(ctx, o)
}

// scriptFile returns the command that runs a script in the machine, and the
// script as a file to bring along.
func scriptFile(args []string) ([]string, vm.File, error) {
	head, err := readHead(args[0])
	if err != nil {
		return nil, vm.File{}, fmt.Errorf("read script: %w", err)
	}
	inside := path.Join(guest.WorkDir, filepath.Base(args[0]))
	argv := append([]string{inside}, args[1:]...)
	if !bytes.HasPrefix(head, []byte("#!")) && !bytes.HasPrefix(head, []byte("\x7fELF")) {
		argv = append([]string{"bash"}, argv...)
	}
	file := vm.File{
		From: args[0], To: path.Join(path.Base(guest.WorkDir), filepath.Base(args[0])), Mode: 0o755,
	}
	return argv, file, nil
}

// besideScript returns the directory of a script that lies in the source tree,
// so that it can source its neighbours (. "$(dirname "$0")/lib.sh"). A script
// from elsewhere may lie in a directory of any size: --file names what it needs.
func besideScript(source, script string) ([]vm.File, error) {
	top, err := realPath(source)
	if err != nil {
		return nil, fmt.Errorf("read script: %w", err)
	}
	dir, err := realPath(filepath.Dir(script))
	if err != nil {
		return nil, fmt.Errorf("read script: %w", err)
	}
	rel, err := filepath.Rel(top, dir)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return nil, nil
	}
	return []vm.File{{From: dir, To: path.Base(guest.WorkDir)}}, nil
}

func realPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

func readHead(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4))
}
