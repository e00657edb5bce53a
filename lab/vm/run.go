// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"ovs-ipsec-offload/lab/flock"
	"ovs-ipsec-offload/lab/guest"
)

// LockFile is held while a machine runs: one at a time on a host, for two on
// few processors take far more than twice as long each.
const LockFile = "/tmp/ovs-ipsec-offload-lab.lock"

// ExitTimeout is the exit code of a run whose time was over, as timeout(1) has it.
const ExitTimeout = 124

// Limits are the times a machine has for each of its phases.
type Limits struct {
	Boot   time.Duration // until user space runs
	SetUp  time.Duration // until the script starts
	Script time.Duration // until the script ends
	Finish time.Duration // until its results are here
}

// DefaultLimits returns limits that a machine under TCG on a busy host keeps
// by far; script is the time for the script.
func DefaultLimits(hypervisors int, script time.Duration) Limits {
	return Limits{
		Boot:   90 * time.Second,
		SetUp:  time.Duration(60+30*hypervisors) * time.Second,
		Script: script,
		Finish: 60 * time.Second,
	}
}

// Options describe a run.
type Options struct {
	Machine  Machine
	Plan     guest.Plan
	Self     string // the program that becomes the machine's first process
	Files    []File
	Limits   Limits
	Parallel bool // do not wait for other machines of this host

	Stdout, Stderr io.Writer // of the script
	Log            io.Writer // what the lab itself has to say
	OutDir         string    // where files from the machine go; "" is nowhere
}

// A SetupError says that the machine booted but the lab in it could not be set up.
type SetupError struct {
	Reason    string
	KernelLog string
}

// Error returns the reason.
func (e *SetupError) Error() string { return e.Reason }

// A CrashError says that the machine's kernel died, hung or reported a fault.
type CrashError struct {
	Reason    string
	KernelLog string
}

// Error returns the reason.
func (e *CrashError) Error() string { return e.Reason }

// A NoBootError says that a machine never reached user space.
type NoBootError struct {
	Reason  string
	Console string
}

// Error returns the reason.
func (e *NoBootError) Error() string { return "boot the machine: " + e.Reason }

// Run boots a machine, runs the plan's script in it, and returns the script's
// exit code; ExitTimeout if its time was over. A boot that does not reach user
// space is tried once more; one that did never is, whatever came of it.
func Run(ctx context.Context, o Options) (int, error) {
	if !o.Parallel {
		lock, err := flock.Acquire(ctx, LockFile, func() {
			fmt.Fprintln(o.Log, "lab: waiting for another machine on this host to end (LAB_PARALLEL=1 does not wait)")
		})
		if err != nil {
			return 0, err
		}
		defer lock.Close()
	}
	code, err := runOnce(ctx, o)
	var noBoot *NoBootError
	if errors.As(err, &noBoot) && ctx.Err() == nil {
		fmt.Fprintf(o.Log, "lab: %v; trying once more\n", err)
		code, err = runOnce(ctx, o)
	}
	return code, err
}

func runOnce(ctx context.Context, o Options) (int, error) {
	disk, err := payloadDisk(o.Self, o.Plan, o.Files)
	if err != nil {
		return 0, err
	}
	defer disk.Close()
	s, err := start(o, disk)
	if err != nil {
		return 0, err
	}
	defer s.close()
	code, err := s.follow(ctx)
	return code, errors.Join(err, s.saveLog())
}

// saveLog leaves the kernel's log beside the files the script left.
func (s *session) saveLog() error {
	if s.o.OutDir == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(s.o.OutDir, "dmesg"), []byte(s.kernelLog()), 0o644)
}

// follow waits for one event after the other until the run has ended.
func (s *session) follow(ctx context.Context) (int, error) {
	phase, timer := booting, time.NewTimer(s.o.Limits.Boot)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-s.qemu.ended:
			return 0, s.died(phase)
		case <-timer.C:
			next, err := s.expired(phase)
			if err != nil {
				return 0, err
			}
			phase = next
			timer.Reset(s.o.Limits.of(phase))
		case e := <-s.events:
			switch e.Kind {
			case guest.Failed:
				return 0, &SetupError{Reason: e.Text, KernelLog: s.kernelLog()}
			case guest.Exited:
				return s.finish(ctx, e)
			}
			if e.Kind == guest.Started {
				s.running()
			}
			phase = phase.after(e.Kind)
			timer.Reset(s.o.Limits.of(phase))
		}
	}
}

// A phase is what the machine is busy with.
type phase int

const (
	booting phase = iota
	settingUp
	runningScript
	stopping // its time is over, and it was told so
)

func (p phase) after(e guest.EventKind) phase {
	switch e {
	case guest.Booted:
		return settingUp
	case guest.Started:
		return runningScript
	default:
		return p
	}
}

// of gives the limit of a phase.
func (l Limits) of(p phase) time.Duration {
	switch p {
	case booting:
		return l.Boot
	case settingUp:
		return l.SetUp
	case runningScript:
		return l.Script
	default:
		return l.Finish
	}
}

// expired decides what to do when the time of a phase is over. A script is
// stopped in an orderly way, so that the kernel's log and its files come back.
func (s *session) expired(p phase) (phase, error) {
	limit := s.o.Limits.of(p)
	switch p {
	case booting:
		return p, &NoBootError{Reason: fmt.Sprintf("no sign of life within %v", limit), Console: s.console.String()}
	case settingUp:
		return p, &CrashError{Reason: fmt.Sprintf("the lab was not set up within %v", limit), KernelLog: s.kernelLog()}
	case runningScript:
		fmt.Fprintf(s.o.Log, "lab: the script's time is over (%v)\n", limit)
		return stopping, s.stop()
	default:
		return p, &CrashError{Reason: "the machine hangs: it did not end when told to", KernelLog: s.kernelLog()}
	}
}

// died tells why QEMU ended while the machine had something left to do.
func (s *session) died(p phase) error {
	s.drainConsole()
	reason := fmt.Sprintf("the machine ended by itself (QEMU: %v)", s.qemu.err)
	if stderr := s.qemu.stderr.String(); stderr != "" {
		reason += "\n" + stderr
	}
	if p == booting {
		return &NoBootError{Reason: reason, Console: s.console.String()}
	}
	return &CrashError{Reason: reason, KernelLog: s.kernelLog()}
}

// finish waits until all the machine sent has arrived, and looks for faults in
// the kernel's log.
func (s *session) finish(ctx context.Context, e guest.Event) (int, error) {
	s.stdout.expect(e.Stdout)
	s.stderr.expect(e.Stderr)
	limit := time.NewTimer(s.o.Limits.Finish)
	defer limit.Stop()
	for _, done := range []<-chan struct{}{s.stdout.done, s.stderr.done, s.results.done} {
		select {
		case <-done:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-limit.C:
			return 0, &CrashError{Reason: "the machine did not deliver its output", KernelLog: s.kernelLog()}
		}
	}
	if s.results.err != nil {
		return 0, s.results.err
	}
	if found := Complaints(s.kernelLog()); len(found) > 0 {
		return 0, &CrashError{
			Reason:    fmt.Sprintf("the kernel reported a fault (the script's exit code was %d): %s", e.Code, found[0]),
			KernelLog: s.kernelLog(),
		}
	}
	return e.Code, nil
}
