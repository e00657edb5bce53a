// SPDX-License-Identifier: Apache-2.0

// Package guest is the part of the lab that runs inside the machine: the first
// process, which sets the lab up, runs what it was told to and reports how it
// ended, and the scripts it does that with (bin/, lib/).
//
// Nothing of it is part of the cached image. All of it travels with each run,
// in a payload that the initial RAM disk unpacks to /lab.
package guest

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
)

// Scripts holds bin/ (programs for those who use the lab) and lib/ (what sets
// it up). They are placed under /lab.
//
//go:embed bin lib
var Scripts embed.FS

// Places inside the machine.
const (
	Root     = "/lab"           // where the payload is unpacked
	WorkDir  = "/lab/work"      // where the script lies and starts
	OutDir   = "/lab/out"       // what is left here goes back to the host ($LAB_OUT)
	PlanFile = "/lab/plan.json" // the Plan
	Module   = "/lab/simnic.ko" // the simulated NIC, if it is to be loaded
)

// Names of the virtio-serial ports between machine and host.
const (
	PortStdout  = "lab.out"
	PortStderr  = "lab.err"
	PortControl = "lab.ctl" // Events to the host, StopRequest to the machine
	PortResults = "lab.res" // a tar archive, before the exit event
)

// StopRequest is the line with which the host ends a run whose time is over.
const StopRequest = "stop"

// KernelLogName is the name of the kernel's log in the archive of results.
// Files of OutDir come under OutPrefix.
const (
	KernelLogName = "dmesg"
	OutPrefix     = "out/"
)

// A Plan tells the first process what to do.
type Plan struct {
	Argv        []string // the script and its arguments
	Env         []string // added to the environment
	Params      []string // parameters of the NIC's module, NAME=VALUE
	Hypervisors int      // size of the topology; 0 is none
	Terminal    *Terminal
}

// A Terminal makes the script interactive.
type Terminal struct {
	Term       string // $TERM
	Rows, Cols uint16
}

// An EventKind says how far the machine got.
type EventKind string

// The events, in the order in which they come. Exactly one of Failed and
// Exited ends a run.
const (
	Booted  EventKind = "boot"  // user space runs
	Started EventKind = "start" // the lab is set up, the script begins
	Failed  EventKind = "fail"  // the lab could not be set up; Text says why
	Exited  EventKind = "exit"  // the script ended
)

// An Event is one line from the machine to the host.
type Event struct {
	Kind EventKind
	Text string
	// Of Exited: the exit code, and how many bytes the machine has written to
	// the ports of output. The ports are independent of one another, so the
	// host must read that many before it may switch the machine off.
	Code           int
	Stdout, Stderr int64
}

// String gives the line that ParseEvent reads, without its end.
func (e Event) String() string {
	switch e.Kind {
	case Exited:
		return fmt.Sprintf("%s %d %d %d", e.Kind, e.Code, e.Stdout, e.Stderr)
	case Failed:
		return fmt.Sprintf("%s %s", e.Kind, strconv.Quote(e.Text))
	default:
		return string(e.Kind)
	}
}

// ParseEvent reads a line of the control port.
func ParseEvent(line string) (Event, error) {
	kind, rest, _ := strings.Cut(line, " ")
	e := Event{Kind: EventKind(kind)}
	var err error
	switch e.Kind {
	case Booted, Started:
	case Failed:
		e.Text, err = strconv.Unquote(rest)
	case Exited:
		_, err = fmt.Sscan(rest, &e.Code, &e.Stdout, &e.Stderr)
	default:
		err = fmt.Errorf("unknown kind")
	}
	if err != nil {
		return Event{}, fmt.Errorf("parse event %q: %w", line, err)
	}
	return e, nil
}
