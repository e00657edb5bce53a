// SPDX-License-Identifier: Apache-2.0

//go:build lab

// The tests of this file and its like need root, a kernel with ESP and the
// simulated NIC: go test -tags lab -exec lab/exec ./xfrm

package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// host moves the test into a network namespace of its own, which goes away
// with its thread, holding a PF pf0 with 10.0.0.1 and fd00::1 on a wire, and
// a device dummy0 that offloads nothing. It returns both interface indexes.
func host(t testing.TB) (pf, dummy int) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread must die
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	run(t, `
		ip link set lo up
		ip link add wire0 mtu 9000 type veth peer name wire1
		ip link set wire0 up; ip link set wire1 up
		ip link add link wire0 name pf0 type simpf
		ip link set pf0 up
		ip addr add 10.0.0.1/24 dev pf0
		ip addr add fd00::1/64 dev pf0 nodad
		ip link add dummy0 type dummy
		ip link set dummy0 up
		ip addr add 10.1.0.1/24 dev dummy0`)
	t.Cleanup(func() { run(t, "ip xfrm policy flush; ip xfrm state flush; ip link del pf0; ip link del wire0") })
	return ifindex(t, "pf0"), ifindex(t, "dummy0")
}

// run runs a shell script in the namespace of the calling thread.
func run(t testing.TB, script string, args ...any) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", fmt.Sprintf(script, args...)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", fmt.Sprintf(script, args...), err, out)
	}
	return string(out)
}

func ifindex(t testing.TB, name string) int {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatalf("device %s: %v", name, err)
	}
	return i.Index
}

func labClient(t testing.TB) *Client {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// mustDo carries out ops and fails for each that does not succeed.
func mustDo(t testing.TB, c *Client, ops ...Op) {
	t.Helper()
	for i, err := range c.Do(context.Background(), ops) {
		if err != nil {
			t.Errorf("%s: %v", ops[i], err)
		}
	}
}

// wantError fails unless err is an OpError with that number and those words.
func wantError(t *testing.T, err error, n unix.Errno, words string, code Code) {
	t.Helper()
	if !errors.Is(err, n) || !strings.Contains(err.Error(), words) || CodeOf(err) != code {
		t.Errorf("got %v (%s), want %v, %q, %s", err, CodeOf(err), n, words, code)
	}
}

// on returns s on a device.
func on(ifindex int, s *SA) *SA {
	s.Offload = Offload{Ifindex: ifindex, Packet: ifindex != 0}
	return s
}

// policyOn returns p on a device.
func policyOn(ifindex int, p *Policy) *Policy {
	p.Offload = Offload{Ifindex: ifindex, Packet: ifindex != 0}
	return p
}
