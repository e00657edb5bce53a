// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Vswitchd speaks to a running ovs-vswitchd as ovs-appctl(8) does: JSON-RPC on
// the unix socket that its pid file leads to.
type Vswitchd struct {
	RunDir string // usually /run/openvswitch
}

// Purge makes ovs-vswitchd delete its datapath flows once, so that they come
// back by way of the offload (revalidator/purge). An ovs-vswitchd that does not
// run has nothing to purge: that is not an error.
//
// A first call makes sure that ovs-vswitchd has gone through its main loop once
// more, and so taken what was committed to the database before: there it looks
// at the database first and serves one round of calls after that.
func (v Vswitchd) Purge(ctx context.Context) error {
	_, err := v.Call(ctx, "version")
	if err == nil {
		_, err = v.Call(ctx, "revalidator/purge")
	}
	if stopped(err) {
		return nil
	}
	return err
}

// Running tells whether an ovs-vswitchd runs: whether somebody listens on the
// socket that its pid file leads to. One that hangs runs; one that was killed
// does not, although its files are still there.
func (v Vswitchd) Running(ctx context.Context) (bool, error) {
	socket, err := v.socket()
	if err == nil {
		var c net.Conn
		if c, err = new(net.Dialer).DialContext(ctx, "unix", socket); err == nil {
			return true, c.Close()
		}
	}
	if stopped(err) {
		return false, nil
	}
	return false, fmt.Errorf("look for ovs-vswitchd: %w", err)
}

// stopped tells whether err is how an ovs-vswitchd that does not run looks.
func stopped(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// Call runs one command of ovs-vswitchd and returns its answer.
func (v Vswitchd) Call(ctx context.Context, method string, args ...string) (string, error) {
	socket, err := v.socket()
	if err != nil {
		return "", err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return "", fmt.Errorf("call ovs-vswitchd %s: %w", method, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	text, err := exchange(c, method, args)
	if err != nil {
		return "", fmt.Errorf("call ovs-vswitchd %s: %w", method, err)
	}
	return text, nil
}

// socket returns the control socket of the running ovs-vswitchd.
func (v Vswitchd) socket() (string, error) {
	b, err := os.ReadFile(filepath.Join(v.RunDir, "ovs-vswitchd.pid"))
	if err != nil {
		return "", err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return "", fmt.Errorf("read pid of ovs-vswitchd: %w", err)
	}
	return filepath.Join(v.RunDir, fmt.Sprintf("ovs-vswitchd.%d.ctl", pid)), nil
}

// exchange sends one JSON-RPC request (RFC 7047, section 4) and waits for its answer.
func exchange(c net.Conn, method string, args []string) (string, error) {
	if args == nil {
		args = []string{}
	}
	request := map[string]any{"id": 0, "method": method, "params": args}
	if err := json.NewEncoder(c).Encode(request); err != nil {
		return "", err
	}
	var answer struct {
		Result *string `json:"result"`
		Error  *string `json:"error"`
	}
	if err := json.NewDecoder(c).Decode(&answer); err != nil {
		return "", err
	}
	if answer.Error != nil {
		return "", fmt.Errorf("%s", strings.TrimSpace(*answer.Error))
	}
	if answer.Result == nil {
		return "", nil
	}
	return *answer.Result, nil
}
