// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// endpoint is where an ovsdb-server listens.
type endpoint struct {
	address string // as the operator knows it: a path, or host:port
	url     string // as libovsdb takes it
}

// parseEndpoint reads OVSDB's connection format (ovsdb(7)): "unix:/path" or
// "tcp:address:port".
func parseEndpoint(s string) (endpoint, error) {
	method, address, _ := strings.Cut(s, ":")
	switch method {
	case "unix":
		// Without an absolute path libovsdb silently takes a default of its own.
		if !filepath.IsAbs(address) {
			return endpoint{}, fmt.Errorf("read database address %q: the path must be absolute, as in unix:/run/openvswitch/db.sock", s)
		}
		return endpoint{address, (&url.URL{Scheme: method, Path: address}).String()}, nil
	case "tcp":
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" {
			return endpoint{}, fmt.Errorf("read database address %q: must be tcp:ADDRESS:PORT", s)
		}
		return endpoint{address, s}, nil
	case "ssl":
		return endpoint{}, fmt.Errorf("read database address %q: ssl is not supported; use the local unix socket", s)
	}
	return endpoint{}, fmt.Errorf("read database address %q: must begin with \"unix:\" or \"tcp:\"", s)
}

// explain makes of libovsdb's error one line for the operator. The call had the
// context ctx.
func (e endpoint) explain(ctx context.Context, err error) error {
	if reason, ok := syscallReason(err); ok {
		return fmt.Errorf("connect %s: %w%s", e.address, reason, remedy(reason))
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("connect %s: ovsdb-server does not answer: %w", e.address, ctx.Err())
	}
	return fmt.Errorf("connect %s: %w", e.address, err)
}

// syscallReason digs the errno out of an error of package net.
func syscallReason(err error) (syscall.Errno, bool) {
	var sys *os.SyscallError
	var errno syscall.Errno
	if errors.As(err, &sys) && errors.As(sys.Err, &errno) {
		return errno, true
	}
	return 0, false
}

func remedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return " (waiting for ovsdb-server to start)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return " (the socket is there, but no ovsdb-server listens: waiting for it to start)"
	case errors.Is(err, fs.ErrPermission):
		return " (run as root, or as a member of the group that owns the socket)"
	}
	return ""
}
