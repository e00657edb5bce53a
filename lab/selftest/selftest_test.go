// SPDX-License-Identifier: Apache-2.0

//go:build selftest

package selftest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab starts one of the lab's commands in an empty directory.
func lab(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := filepath.Abs("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = t.TempDir()
	return cmd
}

// script writes a script somewhere outside the source tree.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script.sh")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// result runs cmd to its end.
func result(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func TestOutputAndExitCode(t *testing.T) {
	data := make([]byte, 3<<20)
	rand.Read(data)
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := script(t, `cat data; echo "$1|$2|$FOO" >&2; echo to-device >/dev/stderr
mkdir "$LAB_OUT/d"; echo kept >"$LAB_OUT/d/f"
sleep 1000 & # must not keep the run from ending
exit 7
`)
	cmd := lab(t, "run", "--bare", "--no-daemon", "--file", file, "--env", "FOO=bar", "--out", "out", s, "a b", "--bare")
	stdout, stderr, code := result(t, cmd)
	if code != 7 {
		t.Errorf("exit code %d", code)
	}
	if stdout != string(data) {
		t.Errorf("%d bytes of output differ from the %d sent", len(stdout), len(data))
	}
	if !strings.Contains(stderr, "a b|--bare|bar\nto-device\n") {
		t.Errorf("standard error %q", stderr)
	}
	kept, err := os.ReadFile(filepath.Join(cmd.Dir, "out/d/f"))
	if string(kept) != "kept\n" {
		t.Errorf("result %q, %v", kept, err)
	}
	log, err := os.ReadFile(filepath.Join(cmd.Dir, "out/dmesg"))
	if !strings.Contains(string(log), "Linux version") {
		t.Errorf("kernel log of %d bytes, %v", len(log), err)
	}
}

func TestTimeLimit(t *testing.T) {
	s := script(t, "trap '' TERM INT; echo begun; echo kept >$LAB_OUT/f; sleep 1000\n")
	cmd := lab(t, "run", "--bare", "--no-daemon", "--timeout", "3", "--out", "out", s)
	stdout, stderr, code := result(t, cmd)
	if code != 124 || stdout != "begun\n" || !strings.Contains(stderr, "time is over") {
		t.Errorf("code %d, output %q, %q", code, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(cmd.Dir, "out/f")); err != nil {
		t.Error(err)
	}
}

func TestKernelFaults(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"panic":     {"echo c >/proc/sysrq-trigger; sleep 100", "Kernel panic"},
		"complaint": {"echo 'BUG: made up' >/dev/kmsg", "BUG: made up"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := result(t, lab(t, "run", "--bare", "--no-daemon", script(t, "echo before\n"+c.script)))
			if code != 123 || stdout != "before\n" || !strings.Contains(stderr, c.want) {
				t.Errorf("code %d, output %q, %q", code, stdout, stderr)
			}
		})
	}
}

func TestSetUpFailure(t *testing.T) {
	_, stderr, code := result(t, lab(t, "run", "--bare", "--no-daemon", "--param", "nonsense=1", script(t, "true")))
	if code != 125 || !strings.Contains(stderr, "no parameter nonsense") {
		t.Errorf("code %d, %q", code, stderr)
	}
}

// Whatever ends the lab's program, the machine goes with it.
func TestNothingIsLeftRunning(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}, {syscall.SIGKILL, -1}} {
		t.Run(c.signal.String(), func(t *testing.T) {
			cmd := lab(t, "run", "--bare", "--no-daemon", script(t, "echo ready; sleep 1000\n"))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
				t.Fatal(err)
			}
			machines := children(t, cmd.Process.Pid)
			if len(machines) != 1 {
				t.Fatalf("children %v, want QEMU alone", machines)
			}
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("the run succeeded")
			}
			if got := cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			waitUntilGone(t, machines[0])
		})
	}
}

// children lists the processes a process has started, by any of its threads.
func children(t *testing.T, pid int) []int {
	t.Helper()
	var pids []int
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, child)
		}
	}
	return pids
}

// waitUntilGone waits until a process that is not ours has ended; one that
// nobody has collected yet has ended too.
func waitUntilGone(t *testing.T, pid int) {
	t.Helper()
	for range 100 {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || strings.Contains(string(status), "State:\tZ") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

func TestGoTests(t *testing.T) {
	exe, err := filepath.Abs("../exec")
	if err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(t.TempDir(), "c.out")
	good := exec.Command("go", "test", "-tags", "lab", "-coverprofile", profile, "-exec", exe, "./inside")
	good.Env = append(os.Environ(), "CGO_ENABLED=0")
	if stdout, stderr, code := result(t, good); code != 0 {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	if text, err := os.ReadFile(profile); !strings.HasPrefix(string(text), "mode:") {
		t.Errorf("coverage profile %q, %v", text, err)
	}
	bad := exec.Command("go", "test", "-tags", "lab", "-exec", exe+" --env LAB_SELFTEST", "./inside")
	bad.Env = append(os.Environ(), "CGO_ENABLED=0", "LAB_SELFTEST=fail")
	if stdout, stderr, code := result(t, bad); code != 1 || !strings.Contains(stdout, "told to fail") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
}

// script(1) gives the shell a terminal.
func TestShell(t *testing.T) {
	shell, err := filepath.Abs("../shell")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("script", "-qec", shell+" --bare --no-daemon", "/dev/null")
	cmd.Stdin = strings.NewReader("test -t 0 && echo on a ter\"\"minal; exit 3\n")
	stdout, stderr, code := result(t, cmd)
	if code != 3 || !strings.Contains(stdout, "on a terminal") {
		t.Errorf("code %d, output %q, %q", code, stdout, stderr)
	}
}

func TestTopology(t *testing.T) {
	topology, err := filepath.Abs("topology.sh")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := result(t, lab(t, "run", "--no-daemon", topology))
	t.Log(stdout)
	if code != 0 {
		t.Errorf("code %d, %s", code, stderr)
	}
}

func TestThreeHypervisors(t *testing.T) {
	s := script(t, `set -e
lab-wire start 4790
for n in 1 2; do for a in 10.0.0.3 fd00::3; do lab-hv $n ping -q -c 1 -W 5 $a >/dev/null; done; done
lab-hv 3 bash -c 'echo x >/dev/udp/10.0.0.1/4789; echo x >/dev/udp/fd00::2/4789; echo x >/dev/udp/10.0.0.2/4790'
lab-wire stop | grep -v other
for n in 1 2 3; do lab-hv $n ovs-vsctl get Open_vSwitch . external_ids:system-id; done
`)
	stdout, stderr, code := result(t, lab(t, "run", "--no-daemon", "--hypervisors", "3", s))
	if want := "esp 0\nudp4789 2\nudp4790 1\nhv1\nhv2\nhv3\n"; code != 0 || stdout != want {
		t.Errorf("code %d, output %q, want %q; %s", code, stdout, want, stderr)
	}
}
