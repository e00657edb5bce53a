// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A process is what run starts.
type process struct {
	argv  []string
	env   []string
	dir   string
	files []*os.File // standard input, output, error
	tty   bool       // files[0] becomes the controlling terminal
}

// stdio gives the standard files of a process that reads nothing. The file
// behind /dev/null is never closed: there are two of them in a run.
func stdio(out, stderr *os.File) []*os.File {
	null, err := os.Open(os.DevNull)
	if err != nil {
		panic(err) // the device is made by the kernel
	}
	return []*os.File{null, out, stderr}
}

// run starts p and waits for its end. Since the first process is the parent of
// every orphan, it collects all that end meanwhile; package os/exec would not.
func run(p process) (code int, err error) {
	attr := &syscall.ProcAttr{
		Dir: p.dir, Env: p.env,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: p.tty},
	}
	for _, f := range p.files {
		attr.Files = append(attr.Files, f.Fd())
	}
	path, err := lookPath(p.argv[0], p.env)
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", p.argv[0], err)
	}
	pid, err := syscall.ForkExec(path, p.argv, attr)
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", p.argv[0], err)
	}
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for %s: %w", p.argv[0], err)
		}
		if ended == pid {
			return exitCode(status), nil
		}
	}
}

// lookPath finds a program by the PATH of the new process.
func lookPath(name string, env []string) (string, error) {
	for _, e := range env {
		value, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		if err := os.Setenv("PATH", value); err != nil {
			return "", err
		}
	}
	return exec.LookPath(name)
}

// exitCode gives the code as a shell does: 128 + N for the signal N.
func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// runOnTerminal runs p on the virtio console, which the host connects to its
// own terminal.
func runOnTerminal(p process, t Terminal) (int, error) {
	fd, err := unix.Open("/dev/hvc0", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open /dev/hvc0: %w", err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: t.Rows, Col: t.Cols}); err != nil {
		return 0, fmt.Errorf("set terminal size: %w", err)
	}
	tty := os.NewFile(uintptr(fd), "/dev/hvc0")
	p.files, p.tty = []*os.File{tty, tty, tty}, true
	code, err := run(p)
	killOthers()
	return code, err
}

// A mountPoint is one line of what a distribution mounts at boot.
type mountPoint struct {
	source, target, fstype, options string
}

// mountAll mounts what the initial RAM disk did not.
func mountAll() error {
	points := []mountPoint{
		{"proc", "/proc", "proc", ""}, {"sysfs", "/sys", "sysfs", ""}, {"dev", "/dev", "devtmpfs", ""},
		{"devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"}, {"shm", "/dev/shm", "tmpfs", ""},
		{"run", "/run", "tmpfs", "mode=0755"}, {"tmp", "/tmp", "tmpfs", "mode=1777"},
		{"debugfs", "/sys/kernel/debug", "debugfs", ""}, {"tracefs", "/sys/kernel/tracing", "tracefs", ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", ""},
	}
	for _, m := range points {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.fstype, 0, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	// Elsewhere udev makes these.
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	// Mount points of network namespaces and the like must not spread.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return os.MkdirAll(OutDir, 0o755)
}
