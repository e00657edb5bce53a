// SPDX-License-Identifier: Apache-2.0

// Package unixctl answers ovs-appctl(8) as the daemons of Open vSwitch do: by
// JSON-RPC on a unix socket that their pid file leads to (lib/unixctl.c,
// python/ovs/unixctl/server.py).
package unixctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Command is one command of a Server.
type Command struct {
	Name  string
	Usage string // its arguments, for list-commands: "[--no-cleanup]"
	// Min and Max bound the number of arguments.
	Min, Max int
	// Run returns what ovs-appctl prints on standard output, or an error, which it
	// prints on standard error and ends with exit code 2. ctx ends with the server.
	Run func(ctx context.Context, args []string) (string, error)
}

// Server answers commands. list-commands, help, version and set-options are its
// own.
type Server struct {
	commands map[string]Command
}

// New returns a Server. version is what the command of that name says.
func New(version string, commands ...Command) *Server {
	s := &Server{commands: make(map[string]Command, len(commands)+4)}
	list := func(context.Context, []string) (string, error) { return s.list(), nil }
	own := []Command{
		{Name: "list-commands", Run: list},
		{Name: "help", Run: list},
		{Name: "version", Run: func(context.Context, []string) (string, error) { return version, nil }},
		{Name: setOptions, Usage: "[--format text|json]", Min: 1, Max: 2},
	}
	for _, c := range append(own, commands...) {
		s.commands[c.Name] = c
	}
	return s
}

// list returns the answer of list-commands.
func (s *Server) list() string {
	var b strings.Builder
	b.WriteString("The available commands are:\n")
	for _, name := range slices.Sorted(maps.Keys(s.commands)) {
		if usage := s.commands[name].Usage; usage != "" {
			fmt.Fprintf(&b, "  %-23s %s\n", name, usage)
		} else {
			fmt.Fprintf(&b, "  %s\n", name)
		}
	}
	return b.String()
}

// find returns the command that a request is for, and its arguments.
func (s *Server) find(r request) (Command, []string, error) {
	c, is := s.commands[r.Method]
	switch {
	case !is:
		return c, nil, fmt.Errorf("%q is not a valid command: list-commands names those that are", r.Method)
	case len(r.Params) < c.Min:
		return c, nil, fmt.Errorf("%q command requires at least %d arguments", r.Method, c.Min)
	case len(r.Params) > c.Max:
		return c, nil, fmt.Errorf("%q command takes at most %d arguments", r.Method, c.Max)
	}
	args := make([]string, len(r.Params))
	for i, p := range r.Params {
		if args[i], is = p.(string); !is {
			return c, nil, fmt.Errorf("%q command has non-string argument", r.Method)
		}
	}
	return c, args, nil
}
