// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin/keys"
)

// The exit codes, as docs/configuration.md and --help state them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitUnsupported = 4
	exitFlowsFirst  = 5
	exitWaits       = 6
)

// exitError is an error with the exit code it leads to.
type exitError struct {
	code int
	err  error
}

// Error returns the text of the error.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the error without its code.
func (e *exitError) Unwrap() error { return e.err }

func wrongUse(err error) error { return &exitError{exitUsage, err} }

func wrongUsef(format string, args ...any) error { return wrongUse(fmt.Errorf(format, args...)) }

// exitCode returns the code for an error of a verb.
func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if errors.Is(err, fs.ErrPermission) { // EACCES and EPERM
		return exitUnreachable
	}
	return exitFailure
}

// describe returns the text for the operator, with the code of a refusal.
func describe(err error) string {
	text := err.Error()
	if k, ok := errors.AsType[*keys.Error](err); ok {
		text += " [" + k.Code + "]"
	}
	if _, coded := errors.AsType[*exitError](err); !coded && errors.Is(err, fs.ErrPermission) {
		text += "; run it as root"
	}
	return text
}

// noArgs refuses arguments as wrong use.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return wrongUsef("unknown command or argument %q; see \"%s --help\"", args[0], cmd.CommandPath())
	}
	return nil
}
