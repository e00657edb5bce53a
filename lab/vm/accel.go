// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An Accel is what executes the machine's instructions.
type Accel string

// The accelerators. TCG translates every instruction and works everywhere.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg"
)

func (a Accel) qemu() string {
	if a == TCG {
		return "tcg,thread=multi"
	}
	return string(a)
}

// QEMU is the program that boots machines.
const QEMU = "qemu-system-x86_64"

// probeLimit is far more than a machine under KVM needs to reach user space
// (1-2 s), and little to wait once.
const probeLimit = 20 * time.Second

// probeMarker is what the initial RAM disk prints when it got to run.
const probeMarker = "lab: probe reached user space"

// CheckQEMU says how to get QEMU if it is missing.
func CheckQEMU() error {
	if _, err := exec.LookPath(QEMU); err != nil {
		return fmt.Errorf("find QEMU: %w; get it with: apt-get install qemu-system-x86", err)
	}
	return nil
}

// ChooseAccel returns the accelerator for m: what force asks for ("" is
// nothing), else KVM if it truly boots this machine here, else TCG. /dev/kvm
// alone says little: under some hypervisors it is there, and guests hang. So a
// boot is tried once, and the verdict kept in dir for this kernel and QEMU.
func ChooseAccel(ctx context.Context, m Machine, force, dir string, log io.Writer) (Accel, error) {
	switch Accel(force) {
	case KVM, TCG:
		return Accel(force), nil
	case "":
	default:
		return "", fmt.Errorf("choose accelerator: LAB_ACCEL is %q, want kvm or tcg", force)
	}
	verdict := filepath.Join(dir, "accel-"+hostKey(ctx))
	return decideAccel(ctx, "/dev/kvm", verdict, func(ctx context.Context) Accel {
		return probe(ctx, m, log)
	})
}

// decideAccel returns TCG if device cannot be opened, else what the file
// verdict says, else what probe finds, which it writes to verdict.
func decideAccel(ctx context.Context, device, verdict string, probe func(context.Context) Accel) (Accel, error) {
	kvm, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return TCG, nil
	}
	kvm.Close()
	if text, err := os.ReadFile(verdict); err == nil {
		known := Accel(strings.TrimSpace(string(text)))
		if known == KVM || known == TCG {
			return known, nil
		}
	}
	accel := probe(ctx)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err := os.WriteFile(verdict, []byte(accel+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("remember accelerator: %w", err)
	}
	return accel, nil
}

// hostKey names what the verdict depends on: the host's kernel and QEMU.
func hostKey(ctx context.Context) string {
	var u unix.Utsname
	_ = unix.Uname(&u) // cannot fail with a valid pointer
	version, _ := exec.CommandContext(ctx, QEMU, "--version").Output()
	sum := sha256.Sum256(append(u.Release[:], version...))
	return hex.EncodeToString(sum[:8])
}

// probe boots m under KVM as far as user space.
func probe(ctx context.Context, m Machine, log io.Writer) Accel {
	fmt.Fprintf(log, "lab: trying whether KVM works here (once; at most %.0f s)\n", probeLimit.Seconds())
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	m.Accel = KVM
	out, err := exec.CommandContext(ctx, QEMU, probeArgs(m)...).CombinedOutput()
	if bytes.Contains(out, []byte(probeMarker)) {
		return KVM
	}
	if err == nil {
		err = fmt.Errorf("the machine ended before user space")
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	fmt.Fprintf(log, "lab: /dev/kvm is there but a machine does not boot with it (%v): using TCG, which is slower\n", err)
	return TCG
}
