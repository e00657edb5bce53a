// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var machine = Machine{
	Kernel: "/i/vmlinuz", Initrd: "/i/initrd", Disk: "/i,x/root.ext4", Accel: TCG, MemoryMiB: 512, CPUs: 3,
}

// hasPair tells whether args holds the option with that value.
func hasPair(args []string, option, value string) bool {
	for i := range args[:len(args)-1] {
		if args[i] == option && args[i+1] == value {
			return true
		}
	}
	return false
}

func TestQEMUArgs(t *testing.T) {
	args := qemuArgs(machine, false)
	for _, want := range [][2]string{
		{"-accel", "tcg,thread=multi"}, {"-cpu", "max"}, {"-m", "512"}, {"-smp", "3"},
		{"-kernel", "/i/vmlinuz"}, {"-initrd", "/i/initrd"},
		{"-drive", "file=/i,,x/root.ext4,format=raw,if=virtio,snapshot=on"}, // never written to
		{"-drive", "file=/proc/self/fd/3,format=raw,if=virtio,readonly=on"},
		{"-chardev", "socket,id=lab.out,fd=5"}, {"-device", "virtserialport,chardev=lab.res,name=lab.res"},
		{"-append", kernelArgs},
	} {
		if !hasPair(args, want[0], want[1]) {
			t.Errorf("no %s %s in\n%s", want[0], want[1], strings.Join(args, " "))
		}
	}
	// A panic ends QEMU instead of booting again; no host network is involved.
	if !slices.Contains(args, "-no-reboot") || !slices.Contains(args, "-nodefaults") {
		t.Error("-no-reboot or -nodefaults is missing")
	}
	if hasPair(args, "-device", "virtconsole,chardev=tty") {
		t.Error("a console without being asked for")
	}
	if !hasPair(qemuArgs(machine, true), "-device", "virtconsole,chardev=tty") {
		t.Error("no console though asked for")
	}
	kvm := machine
	kvm.Accel = KVM
	if args := qemuArgs(kvm, false); !hasPair(args, "-accel", "kvm") || !hasPair(args, "-cpu", "host") {
		t.Errorf("KVM: %v", args)
	}
}

func TestChooseAccelForced(t *testing.T) {
	for _, force := range []string{"kvm", "tcg"} {
		got, err := ChooseAccel(t.Context(), machine, force, "/nowhere", io.Discard)
		if string(got) != force || err != nil {
			t.Errorf("LAB_ACCEL=%s: %s, %v", force, got, err)
		}
	}
	if _, err := ChooseAccel(t.Context(), machine, "hvf", "/nowhere", io.Discard); err == nil {
		t.Error("LAB_ACCEL=hvf was accepted")
	}
}

func TestDecideAccel(t *testing.T) {
	never := func(context.Context) Accel { t.Error("probed"); return TCG }
	works := func(context.Context) Accel { return KVM }
	hangs := func(context.Context) Accel { return TCG }
	for _, c := range []struct {
		name   string
		device bool
		known  string
		probe  func(context.Context) Accel
		want   Accel
	}{
		{"no device", false, "", never, TCG},
		{"device vanished", false, "kvm", never, TCG},
		{"known to work", true, "kvm\n", never, KVM},
		{"known to hang", true, "tcg\n", never, TCG},
		{"works", true, "", works, KVM},
		{"hangs", true, "", hangs, TCG},
		{"verdict unreadable", true, "xyz", works, KVM},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			verdict, device := filepath.Join(dir, "verdict"), filepath.Join(dir, "kvm")
			if c.known != "" {
				must(t, os.WriteFile(verdict, []byte(c.known), 0o644))
			}
			if c.device {
				must(t, os.WriteFile(device, nil, 0o644))
			}
			got, err := decideAccel(t.Context(), device, verdict, c.probe)
			if got != c.want || err != nil {
				t.Fatalf("got %s, %v; want %s", got, err, c.want)
			}
			if !c.device {
				return
			}
			text, err := os.ReadFile(verdict)
			if strings.TrimSpace(string(text)) != string(c.want) {
				t.Errorf("remembered %q, %v", text, err)
			}
		})
	}
}

func TestInterruptedProbeIsNotRemembered(t *testing.T) {
	dir := t.TempDir()
	device := filepath.Join(dir, "kvm")
	must(t, os.WriteFile(device, nil, 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := decideAccel(ctx, device, filepath.Join(dir, "verdict"), func(context.Context) Accel {
		cancel()
		return TCG
	})
	if err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(dir, "verdict")); err == nil {
		t.Error("a verdict was written")
	}
}

func TestComplaints(t *testing.T) {
	const fine = `<6>[    4.279545] Initializing XFRM netlink socket
<4>[    5.608665] simnic: loading out-of-tree module taints kernel.
<5>[    5.609163] simnic: module verification failed: signature and/or required key missing - tainting kernel
<4>[    1.0] WARNING: this is only a driver that talks loudly
`
	if got := Complaints(fine); len(got) > 0 {
		t.Errorf("complaints in a healthy log: %v", got)
	}
	for _, line := range []string{
		"BUG: kernel NULL pointer dereference, address: 0000000000000008",
		"Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI",
		"WARNING: CPU: 1 PID: 77 at net/devlink/port.c:1503 devl_port_register+0x1/0x2",
		"watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [tc:812]",
		"INFO: task ip:300 blocked for more than 120 seconds.",
		"rcu: INFO: rcu_preempt self-detected stall on CPU",
		"WARNING: possible circular locking dependency detected",
		"unregister_netdevice: waiting for pf0 to become free. Usage count = 2",
		"refcount_t: underflow; use-after-free.",
		"Kernel panic - not syncing: Fatal exception",
	} {
		got := Complaints(fine + "<4>[ 9.0] " + line + "\n" + fine)
		if len(got) != 1 || !strings.Contains(got[0], line) {
			t.Errorf("%s: got %q", line, got)
		}
	}
}

func TestExcerpt(t *testing.T) {
	var log bytes.Buffer
	for i := range 100 {
		fmt.Fprintf(&log, "line %d\n", i)
	}
	if got := Excerpt(log.String(), 3); got != "line 97\nline 98\nline 99\n" {
		t.Errorf("without a complaint: %q", got)
	}
	bug := strings.Replace(log.String(), "line 50\n", "BUG: it\n", 1)
	got := strings.Split(Excerpt(bug, 30), "\n")
	if got[0] != "line 30" || got[20] != "BUG: it" || got[29] != "line 59" {
		t.Errorf("around a complaint: %q", got)
	}
	if got := Excerpt("BUG: first\n", 30); got != "BUG: first\n" {
		t.Errorf("short log: %q", got)
	}
	if got := Excerpt("", 30); got != "\n" && got != "" {
		t.Errorf("empty log: %q", got)
	}
}

// must ends the test if preparing it failed.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
