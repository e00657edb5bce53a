// SPDX-License-Identifier: Apache-2.0

// Package vm boots a lab machine under QEMU, runs one script in it, and brings
// back its output, its exit code and the files it left. A machine that hangs,
// panics or complains is an error that carries the kernel's log.
//
// A run leaves nothing behind: disks are written to a snapshot that QEMU throws
// away, the payload lies in memory, and QEMU dies with the process that started
// it.
package vm

import (
	"fmt"
	"strconv"

	"ovs-ipsec-offload/lab/guest"
)

// A Machine says what to boot, and on what.
type Machine struct {
	Kernel, Initrd, Disk string // files of the image
	Accel                Accel
	MemoryMiB            int
	CPUs                 int
}

// firstFD is the first file descriptor that QEMU inherits besides the standard
// ones, in the order of wire.fds.
const firstFD = 3

// The order of the inherited file descriptors.
const (
	fdPayload = firstFD + iota
	fdSerial
	fdStdout
	fdStderr
	fdControl
	fdResults
)

// kernelArgs is the kernel's command line. A machine that has an oops, a soft
// lockup or a task that hangs ends itself; -no-reboot turns that into QEMU's
// exit. Apparmor and mitigations cost time and protect nobody here.
const kernelArgs = "console=ttyS0 loglevel=5 panic=-1 oops=panic softlockup_panic=1 hung_task_panic=1 " +
	"log_buf_len=4M mitigations=off apparmor=0 audit=0 random.trust_cpu=on no_timer_check"

// qemuArgs gives QEMU's arguments for a run; terminal adds a console on QEMU's
// own standard input and output.
func qemuArgs(m Machine, terminal bool) []string {
	args := append(machineArgs(m),
		"-append", kernelArgs,
		"-drive", "file="+escapeComma(m.Disk)+",format=raw,if=virtio,snapshot=on",
		"-drive", fmt.Sprintf("file=/proc/self/fd/%d,format=raw,if=virtio,readonly=on", fdPayload),
		"-chardev", chardev("serial", fdSerial), "-serial", "chardev:serial",
		"-device", "virtio-serial-pci,max_ports=8",
	)
	if terminal {
		args = append(args, "-chardev", "stdio,id=tty,signal=off", "-device", "virtconsole,chardev=tty")
	}
	for _, p := range []struct {
		name string
		fd   int
	}{
		{guest.PortStdout, fdStdout}, {guest.PortStderr, fdStderr},
		{guest.PortControl, fdControl}, {guest.PortResults, fdResults},
	} {
		args = append(args, "-chardev", chardev(p.name, p.fd),
			"-device", fmt.Sprintf("virtserialport,chardev=%s,name=%s", p.name, p.name))
	}
	return args
}

// probeArgs gives QEMU's arguments for a boot that only shows that the
// accelerator works; the machine writes to QEMU's standard output.
func probeArgs(m Machine) []string {
	return append(machineArgs(m), "-append", "console=ttyS0 quiet panic=-1 lab.probe", "-serial", "stdio")
}

// machineArgs is what every boot has in common.
func machineArgs(m Machine) []string {
	cpu := "max"
	if m.Accel == KVM {
		cpu = "host"
	}
	return []string{
		"-M", "q35", "-accel", m.Accel.qemu(), "-cpu", cpu,
		"-m", strconv.Itoa(m.MemoryMiB), "-smp", strconv.Itoa(m.CPUs),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-kernel", m.Kernel, "-initrd", m.Initrd,
	}
}

func chardev(id string, fd int) string {
	return fmt.Sprintf("socket,id=%s,fd=%d", id, fd)
}

// escapeComma doubles commas, which separate options of QEMU.
func escapeComma(path string) string {
	var out []byte
	for i := range len(path) {
		if path[i] == ',' {
			out = append(out, ',')
		}
		out = append(out, path[i])
	}
	return string(out)
}
