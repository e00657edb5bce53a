// SPDX-License-Identifier: Apache-2.0

package fakenic

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Effect is what a fault does to an operation.
type Effect uint8

// The effects.
const (
	Refuse     Effect = iota // answer with Errno and do nothing
	NotOffload               // take it without offloading it, which the client notices and undoes
	Lose                     // do it, and lose the answer
	Before                   // crash before it
	After                    // crash after it
)

// Always is a number of times without end.
const Always = -1

// Fault makes operations go wrong.
type Fault struct {
	// Label names the operation, as Faults.Seen lists it; "" is any.
	Label string
	// Nth is the number of the operation since the faults were set, from 1; 0 is any.
	Nth    int
	Effect Effect
	Errno  unix.Errno
	Text   string // of the driver
	Times  int    // how often; 0: once; Always
}

// Crash is what an operation panics with when the process is to die at it.
// Nothing of the process runs after it: whoever catches it must drop the Daemon.
type Crash struct{ At string }

// Error says where.
func (c Crash) Error() string { return "crash at " + c.At }

// Faults holds the faults of a host and lists the operations that were asked
// for. The zero value has none. All parts of a fake host share one, so that a
// number means the same to all of them.
type Faults struct {
	mu    sync.Mutex
	list  []Fault
	count int
	seen  []string
	used  bool
	held  bool
}

// Set puts faults in the place of those that are set and starts to count anew.
func (f *Faults) Set(list ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list, f.count, f.seen, f.used = append([]Fault(nil), list...), 0, nil, false
	for i := range f.list {
		if f.list[i].Times == 0 {
			f.list[i].Times = 1
		}
	}
}

// Hold makes all operations go well and uncounted until it is called with false:
// they are not those of the one whose faults these are.
func (f *Faults) Hold(held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = held
}

// Seen returns the labels of the operations since Set, in order.
func (f *Faults) Seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

// Struck tells whether any fault has had its effect since Set.
func (f *Faults) Struck() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// Next counts an operation and returns the fault that strikes it, or nil.
func (f *Faults) Next(label string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held {
		return nil
	}
	f.count++
	f.seen = append(f.seen, label)
	for i := range f.list {
		x := &f.list[i]
		if x.Times == 0 || x.Label != "" && x.Label != label || x.Nth != 0 && x.Nth != f.count {
			continue
		}
		if x.Times > 0 {
			x.Times--
		}
		f.used = true
		hit := *x
		return &hit
	}
	return nil
}

// Run carries out an operation under the faults. An operation that is lost is
// done, and unanswered says so.
func (f *Faults) Run(label string, do func() error) error {
	fault := f.Next(label)
	if fault == nil {
		return do()
	}
	switch fault.Effect {
	case Before:
		panic(Crash{"before " + label})
	case After:
		_ = do()
		panic(Crash{"after " + label})
	case Lose:
		_ = do()
		return errUnanswered
	}
	if fault.Text != "" {
		return fmt.Errorf("%w: %s", fault.Errno, fault.Text)
	}
	return fault.Errno
}

// errUnanswered is the error of an operation whose answer was lost.
var errUnanswered = fmt.Errorf("the kernel gave no answer: %w", unix.ENOBUFS)

// Ask returns the error of a fault that names a question, else nil. Questions
// change nothing and are not counted.
func (f *Faults) Ask(label string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.list {
		x := &f.list[i]
		if f.held || x.Times == 0 || x.Label != label {
			continue
		}
		if x.Times > 0 {
			x.Times--
		}
		f.used = true
		return x.Errno
	}
	return nil
}
