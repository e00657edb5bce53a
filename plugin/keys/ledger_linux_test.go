// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenLedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	l, err := OpenLedger(dir, testClock, "boot-1")
	must(t, err)
	must(t, l.Reserve(t.Context(), entries(1)))

	_, err = OpenLedger(dir, testClock, "boot-1")
	wantCode(t, err, CodeLedger)
	if !strings.Contains(err.Error(), "in use by another") {
		t.Errorf("message %q", err)
	}
	must(t, l.Close())

	l, err = OpenLedger(dir, testClock, "boot-2")
	must(t, err)
	defer l.Close()
	if !l.Used(entry(1).Key) {
		t.Error("a key is forgotten")
	}
	must(t, l.Reserve(t.Context(), entries(2)))
	info, err := os.Stat(filepath.Join(dir, LedgerFile))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestOpenLedgerFailures(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, LedgerFile)
	write(t, path, []byte("junk\n"))
	_, err := OpenLedger(dir, testClock, "")
	wantCode(t, err, CodeLedger)
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("message %q", err)
	}
	must(t, os.Remove(path))
	must(t, os.Symlink("elsewhere", path))
	_, err = OpenLedger(dir, testClock, "")
	wantCode(t, err, CodeLedger)

	_, err = OpenLedger(filepath.Join(path, "x"), testClock, "")
	wantCode(t, err, CodeLedger)
}

func TestLedgerOnAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no /dev/full here")
	}
	must(t, err)
	defer full.Close()
	l := &Ledger{file: full, now: testClock}
	wantCode(t, l.Reserve(t.Context(), entries(1)), CodeLedger)
}

func TestReadLedger(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	empty, err := ReadLedger(dir)
	must(t, err)
	if empty.Used(entry(1).Key) {
		t.Error("a ledger that is not there knows a key")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading made the directory: %v", err)
	}

	owner, err := OpenLedger(dir, testClock, "boot-1")
	must(t, err)
	defer owner.Close()
	must(t, owner.Reserve(t.Context(), entries(1)))
	l, err := ReadLedger(dir)
	must(t, err)
	if !l.Used(entry(1).Key) {
		t.Error("a key is not seen while the ledger is in use")
	}
	wantCode(t, l.Reserve(t.Context(), entries(2)), CodeLedger)
	must(t, owner.Reserve(t.Context(), entries(2)))
}

// Status asks for keys while a round reserves others.
func TestLedgerConcurrentUse(t *testing.T) {
	l := open(t, newDisk(""))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 200 {
			_ = l.Used(entry(byte(n)).Key)
		}
	}()
	for n := range 200 {
		must(t, l.Reserve(t.Context(), entries(byte(n))))
	}
	<-done
}
