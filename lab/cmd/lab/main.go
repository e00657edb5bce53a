// SPDX-License-Identifier: Apache-2.0

// Command lab runs scripts and test binaries in a virtual machine with a real
// kernel, a simulated IPsec-offload NIC and, unless told otherwise, two
// hypervisors with Open vSwitch. The same program, started as the machine's
// first process, is what runs them there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/guest"
	"ovs-ipsec-offload/lab/vm"
)

// Exit codes of the lab's own. Any other is the script's.
const (
	exitCrash = 123 // the machine's kernel died, hung or reported a fault
	exitLab   = 125 // the lab could not be built, booted or set up
)

func main() {
	if os.Getpid() == 1 {
		guest.Main()
	}
	ctx, cause := onSignal()
	code := 0
	root := newRoot(&code)
	err := root.ExecuteContext(ctx)
	if sig := cause(); sig != 0 {
		os.Exit(128 + int(sig))
	}
	if err != nil {
		explain(os.Stderr, err)
		code = exitCodeOf(err)
	}
	os.Exit(code)
}

// onSignal returns a context that ends at the first SIGINT, SIGTERM or SIGHUP,
// and a function that tells which it was, or 0.
func onSignal() (context.Context, func() unix.Signal) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() { cancel(&interruptError{(<-signals).(unix.Signal)}) }()
	return ctx, func() unix.Signal {
		var interrupt *interruptError
		if errors.As(context.Cause(ctx), &interrupt) {
			return interrupt.signal
		}
		return 0
	}
}

// interruptError says that a signal ended the run.
type interruptError struct{ signal unix.Signal }

// Error names the signal.
func (e *interruptError) Error() string { return "ended by " + e.signal.String() }

// newRoot returns the command line; code gets the exit code of what ran in the machine.
func newRoot(code *int) *cobra.Command {
	var source string
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Run scripts and tests in a virtual machine with a simulated IPsec-offload NIC",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&source, "source", ".", "top of the source tree")
	root.AddCommand(newRun(&source, code), newExec(&source, code), newShell(&source, code), newImage())
	return root
}

// exitCodeOf returns the exit code for an error: see README.md.
func exitCodeOf(err error) int {
	var crash *vm.CrashError
	if errors.As(err, &crash) {
		return exitCrash
	}
	return exitLab
}

// explain prints an error and, if a machine is to blame, what its kernel said.
func explain(w io.Writer, err error) {
	const lines = 250
	fmt.Fprintf(w, "lab: %v\n", err)
	var (
		crash  *vm.CrashError
		setup  *vm.SetupError
		noBoot *vm.NoBootError
		log    string
	)
	switch {
	case errors.As(err, &crash):
		log = crash.KernelLog
	case errors.As(err, &setup):
		log = setup.KernelLog
	case errors.As(err, &noBoot):
		log = noBoot.Console
	default:
		return
	}
	fmt.Fprintf(w, "lab: the machine's kernel log:\n%s", vm.Excerpt(log, lines))
}
