// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ovs-ipsec-offload/lab/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeMachine plays a machine, in place of QEMU and a guest.
type fakeMachine struct {
	s     *session
	stops chan string // what the host writes to the control port
}

// newFake returns a session without QEMU. Its limits are those of a real one;
// the clock is synctest's.
func newFake() *fakeMachine {
	f := &fakeMachine{stops: make(chan string, 1)}
	f.s = &session{
		o:       Options{Limits: DefaultLimits(2, 5*time.Minute), Log: io.Discard},
		qemu:    &process{stderr: &tail{limit: 100}, ended: make(chan struct{})},
		control: f, console: &tail{limit: 1000}, stdout: newStream(io.Discard), stderr: newStream(io.Discard),
		results: &results{done: make(chan struct{})}, events: make(chan guest.Event),
		closed: make(chan struct{}), consoleDone: make(chan struct{}),
	}
	return f
}

// Write is the control port.
func (f *fakeMachine) Write(b []byte) (int, error) {
	f.stops <- string(b)
	return len(b), nil
}

func (f *fakeMachine) send(kinds ...guest.EventKind) {
	for _, k := range kinds {
		f.s.events <- guest.Event{Kind: k}
	}
}

func (f *fakeMachine) exit(code int, kernelLog string) {
	f.s.results.kernelLog = kernelLog
	close(f.s.results.done)
	f.s.events <- guest.Event{Kind: guest.Exited, Code: code}
}

func (f *fakeMachine) die(err error) {
	f.s.qemu.err = err
	close(f.s.consoleDone)
	close(f.s.qemu.ended)
}

// stopped waits until the host asks to stop.
func (f *fakeMachine) stopped() bool {
	return <-f.stops == guest.StopRequest+"\n"
}

func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name    string
		machine func(f *fakeMachine)
		code    int
		err     error // compared by type and message
		after   time.Duration
	}{
		{
			name: "script ends", code: 7,
			machine: func(f *fakeMachine) { f.send(guest.Booted, guest.Started); f.exit(7, "<6>[1.0] fine\n") },
		}, {
			name:    "no sign of life",
			machine: func(f *fakeMachine) {},
			err:     &NoBootError{Reason: "no sign of life within 1m30s"}, after: 90 * time.Second,
		}, {
			name:    "QEMU ends before user space",
			machine: func(f *fakeMachine) { f.die(errors.New("exit status 1")) },
			err:     &NoBootError{Reason: "the machine ended by itself (QEMU: exit status 1)"},
		}, {
			name: "set-up fails",
			machine: func(f *fakeMachine) {
				f.send(guest.Booted)
				f.s.events <- guest.Event{Kind: guest.Failed, Text: "no NIC"}
			},
			err: &SetupError{Reason: "no NIC"},
		}, {
			name:    "set-up hangs",
			machine: func(f *fakeMachine) { f.send(guest.Booted) },
			err:     &CrashError{Reason: "the lab was not set up within 2m0s"}, after: 120 * time.Second,
		}, {
			name:    "kernel dies under the script",
			machine: func(f *fakeMachine) { f.send(guest.Booted, guest.Started); f.die(nil) },
			err:     &CrashError{Reason: "the machine ended by itself (QEMU: <nil>)"},
		}, {
			name: "script takes too long", code: 124, after: 5 * time.Minute,
			machine: func(f *fakeMachine) {
				f.send(guest.Booted, guest.Started)
				if f.stopped() {
					f.exit(124, "")
				}
			},
		}, {
			name:    "machine hangs",
			machine: func(f *fakeMachine) { f.send(guest.Booted, guest.Started); f.stopped() },
			err:     &CrashError{Reason: "the machine hangs: it did not end when told to"}, after: 6 * time.Minute,
		}, {
			name: "kernel reports a fault",
			machine: func(f *fakeMachine) {
				f.send(guest.Booted, guest.Started)
				f.exit(0, "<4>[2.0] BUG: sleeping\n")
			},
			err: &CrashError{Reason: "the kernel reported a fault (the script's exit code was 0): <4>[2.0] BUG: sleeping"},
		}, {
			name: "results do not come",
			machine: func(f *fakeMachine) {
				f.send(guest.Booted, guest.Started)
				f.s.events <- guest.Event{Kind: guest.Exited}
			},
			err: &CrashError{Reason: "the machine did not deliver its output"}, after: time.Minute,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { follow(t, c.machine, c.code, c.err, c.after) })
		})
	}
}

// follow lets a fake machine play and compares what the host makes of it, and
// when.
func follow(t *testing.T, machine func(*fakeMachine), code int, want error, after time.Duration) {
	f := newFake()
	begin := time.Now()
	go machine(f)
	got, err := f.s.follow(t.Context())
	synctest.Wait()
	if got != code || !sameError(err, want) {
		t.Errorf("got %d, %v; want %d, %v", got, err, code, want)
	}
	if took := time.Since(begin); took != after {
		t.Errorf("took %v, want %v", took, after)
	}
}

func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Error() == b.Error() && isCrash(a) == isCrash(b)
}

func isCrash(err error) bool {
	var crash *CrashError
	return errors.As(err, &crash)
}

func TestFollowEndsWithTheContext(t *testing.T) {
	f := newFake()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.s.follow(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestKernelLogOfADeadMachineIsTheConsole(t *testing.T) {
	f := newFake()
	if _, err := f.s.console.Write([]byte("Kernel panic\r\n")); err != nil {
		t.Fatal(err)
	}
	f.die(nil)
	var crash *CrashError
	if err := f.s.died(runningScript); !errors.As(err, &crash) || crash.KernelLog != "Kernel panic\n" {
		t.Errorf("error %#v", err)
	}
}

func TestStreamIsDoneWhenAllHasCome(t *testing.T) {
	done := func(s *stream) bool {
		select {
		case <-s.done:
			return true
		default:
			return false
		}
	}
	var out bytes.Buffer
	s := newStream(&out)
	s.add(3)
	if done(s) {
		t.Error("done before the machine said how much there is")
	}
	s.expect(5)
	if done(s) {
		t.Error("done with 3 of 5")
	}
	s.add(2)
	if !done(s) {
		t.Error("not done with 5 of 5")
	}
	late := newStream(&out)
	late.expect(0)
	if !done(late) {
		t.Error("not done with 0 of 0")
	}
	cut := newStream(&out)
	cut.copy(strings.NewReader("abc"))
	if !done(cut) || out.String() != "abc" {
		t.Errorf("a port that ended: done %v, copied %q", done(cut), &out)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	tl := &tail{limit: 5}
	for _, part := range []string{"abc", "def", "", "g\r\n"} {
		if n, err := tl.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("write %q: %d, %v", part, n, err)
		}
	}
	if got := tl.String(); got != "efg\n" {
		t.Errorf("got %q", got)
	}
}

// archive makes an archive of results.
func archive(t *testing.T, members ...[2]string) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		if err := w.WriteHeader(&tar.Header{Name: m[0], Mode: 0o600, Size: int64(len(m[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m[1])); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return &buf
}

func TestResults(t *testing.T) {
	dir := t.TempDir()
	r := receiveResults(archive(t, [2]string{"dmesg", "log"}, [2]string{"out/a", "text"}), dir)
	<-r.done
	text, err := os.ReadFile(filepath.Join(dir, "a"))
	if r.err != nil || r.kernelLog != "log" || string(text) != "text" || err != nil {
		t.Errorf("%v, log %q, file %q, %v", r.err, r.kernelLog, text, err)
	}
	nowhere := receiveResults(archive(t, [2]string{"out/a", "text"}), "")
	if <-nowhere.done; nowhere.err != nil {
		t.Error(nowhere.err)
	}
}

func TestResultsStayInTheirDirectory(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "out")
	must(t, os.Mkdir(dir, 0o755))
	r := receiveResults(archive(t, [2]string{"out/../escaped", "text"}), dir)
	if <-r.done; r.err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(top, "escaped")); err == nil {
		t.Error("a file escaped")
	}
}

func TestBrokenResults(t *testing.T) {
	r := receiveResults(strings.NewReader(strings.Repeat("x", 700)), t.TempDir())
	if <-r.done; r.err == nil {
		t.Error("no error")
	}
}
