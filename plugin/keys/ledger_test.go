// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ovs-ipsec-offload/xfrm"
)

// disk is a File on a disk that can fail and lose power. Bytes written since
// the last Sync may or may not be there after a crash.
type disk struct {
	synced, now []byte
	off         int
	failWrite   int // of the next writes, how many bytes get through; -1: all
	failSync    bool
	failCut     bool
}

func newDisk(content string) *disk {
	return &disk{synced: []byte(content), now: []byte(content), failWrite: -1}
}

var errDisk = errors.New("no space left on device")

func (d *disk) Read(p []byte) (int, error) {
	if d.off == len(d.now) {
		return 0, io.EOF
	}
	n := copy(p, d.now[d.off:])
	d.off += n
	return n, nil
}

func (d *disk) Write(p []byte) (int, error) {
	if d.failWrite < 0 || d.failWrite >= len(p) {
		d.now = append(d.now, p...)
		return len(p), nil
	}
	n := d.failWrite
	d.now = append(d.now, p[:n]...)
	return n, errDisk
}

func (d *disk) Truncate(n int64) error {
	if d.failCut {
		return errDisk
	}
	d.now = d.now[:n]
	return nil
}

func (d *disk) Sync() error {
	if d.failSync {
		return errDisk
	}
	d.synced = bytes.Clone(d.now)
	return nil
}

func (d *disk) Close() error { return nil }

// crash returns the disk after a power cut. The part of the file that was not
// synced is there up to keep bytes; a cut that was not synced may be undone.
func (d *disk) crash(keep int) *disk {
	same := 0
	for same < min(len(d.now), len(d.synced)) && d.now[same] == d.synced[same] {
		same++
	}
	if len(d.now) < len(d.synced) && keep%2 == 0 {
		return newDisk(string(d.synced))
	}
	return newDisk(string(d.now[:min(len(d.now), same+keep)]))
}

func testClock() time.Time { return testTime }

func entry(n byte) Entry {
	return Entry{Key: xfrm.FingerprintOf([]byte{n}), Name: "set1", SPI: 0x1234, Pair: "10.0.0.1 > 10.0.0.2 udp 4789"}
}

func entries(ns ...byte) (es []Entry) {
	for _, n := range ns {
		es = append(es, entry(n))
	}
	return es
}

func open(t interface {
	Helper()
	Fatal(...any)
}, f File) *Ledger {
	t.Helper()
	l, err := NewLedger(f, testClock, "boot-1")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLedgerRemembers(t *testing.T) {
	d := newDisk("")
	l := open(t, d)
	must(t, l.Reserve(t.Context(), entries(1, 2)))
	must(t, l.Refused(entries(2)))
	for i, l := range []*Ledger{l, open(t, d.crash(0))} {
		if !l.Used(entry(1).Key) || l.Used(entry(2).Key) || l.Used(entry(3).Key) {
			t.Errorf("ledger %d: used %v %v %v, want true false false", i, l.Used(entry(1).Key), l.Used(entry(2).Key), l.Used(entry(3).Key))
		}
	}
	must(t, l.Reserve(t.Context(), entries(2)))
	wantCode(t, l.Reserve(t.Context(), entries(3, 1)), CodeUsed)
	wantCode(t, l.Reserve(t.Context(), entries(3, 3)), CodeUsed)
	if l.Used(entry(3).Key) {
		t.Error("a key of a refused batch counts as used")
	}
}

func TestLedgerLine(t *testing.T) {
	d := newDisk("")
	must(t, open(t, d).Reserve(t.Context(), entries(1)))
	want := `{"key":"4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a","event":"install","name":"set1",` +
		`"spi":"0x00001234","pair":"10.0.0.1 \u003e 10.0.0.2 udp 4789","time":"2026-11-20T12:00:00Z","boot_id":"boot-1","crc32c":"`
	if got := string(d.synced); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\"}\n") {
		t.Errorf("line\n%swant it to start with\n%s", got, want)
	}
}

func TestLedgerRefusedNeedsReservation(t *testing.T) {
	d := newDisk("")
	must(t, open(t, d).Reserve(t.Context(), entries(1)))
	l := open(t, d.crash(0))
	wantCode(t, l.Refused(entries(1)), CodeUsed)
	if !l.Used(entry(1).Key) {
		t.Error("a key of an earlier run was released")
	}
}

func TestLedgerCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := newDisk("")
	if err := open(t, d).Reserve(ctx, entries(1)); !errors.Is(err, context.Canceled) || len(d.now) > 0 {
		t.Errorf("got %v, file %q", err, d.now)
	}
}

func TestLedgerFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(*disk)
	}{
		{"full disk", func(d *disk) { d.failWrite = 40 }},
		{"full disk at a line's end", func(d *disk) { d.failWrite = bytes.IndexByte(d.now, '\n') + 1 }},
		{"nothing written", func(d *disk) { d.failWrite = 0 }},
		{"fsync fails", func(d *disk) { d.failSync = true }},
		{"all fails", func(d *disk) { d.failWrite, d.failSync, d.failCut = 40, true, true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDisk("")
			l := open(t, d)
			must(t, l.Reserve(t.Context(), entries(1)))
			good := string(d.synced)
			tt.fault(d)
			for range 2 {
				err := l.Reserve(t.Context(), entries(2, 3))
				wantCode(t, err, CodeLedger)
				if !errors.Is(err, errDisk) {
					t.Errorf("the cause is lost: %v", err)
				}
			}
			d.failWrite, d.failSync, d.failCut = -1, false, false
			must(t, l.Reserve(t.Context(), entries(4)))
			if !strings.HasPrefix(string(d.synced), good) || strings.Count(string(d.synced), "\n") != 2 {
				t.Errorf("file after the fault:\n%s", d.synced)
			}
			if again := open(t, d.crash(0)); !again.Used(entry(4).Key) || again.Used(entry(2).Key) {
				t.Error("the file does not say what was reserved")
			}
		})
	}
}

// Every way to lose the end of a file leaves a ledger that can be opened, and
// every line that was whole still counts.
func TestLedgerTornAnywhere(t *testing.T) {
	d := newDisk("")
	must(t, open(t, d).Reserve(t.Context(), entries(1, 2)))
	file := string(d.synced)
	first := strings.IndexByte(file, '\n') + 1
	for n := range len(file) {
		for _, junk := range []string{"", "\x00", strings.Repeat("\x00", 5000)} {
			d := newDisk(file[:n] + junk)
			l := open(t, d)
			if l.Used(entry(1).Key) != (n >= len(lineStart)+minTorn) {
				t.Fatalf("cut at %d: first key used: %v", n, l.Used(entry(1).Key))
			}
			if l.Used(entry(2).Key) != (n >= first+len(lineStart)+minTorn) {
				t.Fatalf("cut at %d: second key used: %v", n, l.Used(entry(2).Key))
			}
			must(t, l.Reserve(t.Context(), entries(3)))
			again := open(t, d.crash(0))
			for _, k := range entries(1, 2, 3) {
				if again.Used(k.Key) != l.Used(k.Key) {
					t.Fatalf("cut at %d: opened again, the ledger says otherwise", n)
				}
			}
		}
	}
}

func TestLedgerDamagedInTheMiddle(t *testing.T) {
	d := newDisk("")
	must(t, open(t, d).Reserve(t.Context(), entries(1, 2, 3)))
	file := d.synced
	second := bytes.IndexByte(file, '\n') + 1
	for i := range second {
		bad := bytes.Clone(file)
		bad[i] ^= 0x04
		_, err := NewLedger(newDisk(string(bad)), testClock, "")
		wantCode(t, err, CodeLedger)
	}
	_, err := NewLedger(newDisk(string(slices.Concat(file[:second], []byte("\n"), file[second:]))), testClock, "")
	wantCode(t, err, CodeLedger)
	long := strings.Repeat("x", 3*maxLine) + "\n"
	_, err = NewLedger(newDisk(long+string(file)), testClock, "")
	wantCode(t, err, CodeLedger)
}

// No sequence of faults and power cuts leads to a key that is given to the
// kernel twice.
func TestLedgerNeverInstallsTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk("")
		l, installed := open(t, d), map[byte]int{}
		t.Repeat(map[string]func(*rapid.T){
			"install": func(t *rapid.T) {
				ks := rapid.SliceOfNDistinct(rapid.ByteRange(0, 5), 1, 3, rapid.ID).Draw(t, "keys")
				d.failWrite = rapid.IntRange(-1, 900).Draw(t, "bytes that get through")
				d.failSync, d.failCut = rapid.Bool().Draw(t, "fsync fails"), rapid.Bool().Draw(t, "cut fails")
				if l.Reserve(context.Background(), entries(ks...)) != nil {
					return
				}
				for _, k := range ks {
					if rapid.Bool().Draw(t, "kernel refuses") {
						_ = l.Refused(entries(k))
						continue
					}
					installed[k]++
				}
			},
			"crash": func(t *rapid.T) {
				d = d.crash(rapid.IntRange(0, 1000).Draw(t, "bytes that survive"))
				l = open(t, d)
			},
			"": func(t *rapid.T) {
				for k, n := range installed {
					if n > 1 {
						t.Fatalf("key %d was installed %d times", k, n)
					}
				}
			},
		})
	})
}

func FuzzLedger(f *testing.F) {
	d := newDisk("")
	must(f, open(f, d).Reserve(context.Background(), entries(1, 2)))
	f.Add(string(d.synced))
	f.Add(string(d.synced[:len(d.synced)-40]))
	f.Add(`{"key":"4bf5122f` + "\n")
	f.Fuzz(func(t *testing.T, file string) {
		d := newDisk(file)
		l, err := NewLedger(d, testClock, "")
		if err != nil {
			wantCode(t, err, CodeLedger)
			return
		}
		if !l.Used(entry(3).Key) {
			must(t, l.Reserve(t.Context(), entries(3)))
		}
		if !open(t, d.crash(0)).Used(entry(3).Key) {
			t.Error("a reserved key is not known after a crash")
		}
	})
}
