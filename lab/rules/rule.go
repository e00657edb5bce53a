// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"embed"
	"fmt"
	"strings"
)

// Rule is one script.
type Rule struct {
	ID     string // also the file's name, without .rule
	About  string
	Params []Param
	Steps  []Step
}

// Step is one line of a script: exactly one of the pointers is set.
type Step struct {
	Line    int
	Request *Request
	Send    *Packet
	Check   *Check
}

// Request is a command and the answer it must get.
type Request struct {
	Want    Want
	Command Command
}

// Want is the answer that a command must get.
type Want struct {
	Errno    string // "" if it must be carried out
	Text     string // part of the ext-ack text; "" for any
	Hardware string // for filters: "yes", "no", or "" for any
}

// Check is what must be so, at once or soon.
type Check struct {
	Kind       CheckKind
	Key, Value string
}

// CheckKind is a kind of Check.
type CheckKind string

// The kinds of checks. Counter looks at what the last packet changed, Out and
// In at what became of it.
const (
	State   CheckKind = "state"   // Key has Value in the state file
	Counter CheckKind = "counter" // Key has grown by Value
	Stat    CheckKind = "stat"    // ethtool -S shows Key, or not: Value
	Log     CheckKind = "log"     // an event has the text Value
	Out     CheckKind = "out"     // Value left on the wire
	In      CheckKind = "in"      // the packet came out at port Value
)

//go:embed *.rule
var files embed.FS

// All gives the rules of this folder, by name.
func All() ([]Rule, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	all := make([]Rule, 0, len(entries))
	for _, e := range entries {
		r, err := load(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", e.Name(), err)
		}
		all = append(all, r)
	}
	return all, nil
}

func load(name string) (Rule, error) {
	text, err := files.ReadFile(name)
	if err != nil {
		return Rule{}, err
	}
	r, err := Parse(string(text))
	if err != nil {
		return Rule{}, err
	}
	if want := strings.TrimSuffix(name, ".rule"); r.ID != want {
		return Rule{}, fmt.Errorf("the rule in it is called %q", r.ID)
	}
	return r, nil
}
