// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// LedgerFile is the name of the ledger in the daemon's state directory.
const LedgerFile = "outbound-keys"

// OpenLedger opens or makes the ledger in dir and holds it against every other
// process. A missing file is the first start of this host, so it must never be
// removed, nor dir restored from a backup, while key sets from before are in
// use.
func OpenLedger(dir string, now func() time.Time, bootID string) (*Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, refuse(CodeLedger, "open ledger of outbound keys: %w", err)
	}
	path := filepath.Join(dir, LedgerFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, refuse(CodeLedger, "open ledger of outbound keys: %w", err)
	}
	l, err := lockedLedger(f, dir, now, bootID)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// ReadLedger reads the ledger in dir for looking only: it takes no lock, makes
// no file and cannot reserve. A missing file holds no key.
func ReadLedger(dir string) (*Ledger, error) {
	path := filepath.Join(dir, LedgerFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return NewLedger(noFile{}, time.Now, "")
	} else if err != nil {
		return nil, refuse(CodeLedger, "read ledger of outbound keys: %w", err)
	}
	defer f.Close()
	l, err := NewLedger(f, time.Now, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.file = noFile{}
	return l, nil
}

// noFile is an empty file that cannot be written.
type noFile struct{}

// Read returns io.EOF.
func (noFile) Read([]byte) (int, error) { return 0, io.EOF }

// Write fails.
func (noFile) Write([]byte) (int, error) { return 0, fs.ErrPermission }

// Truncate fails.
func (noFile) Truncate(int64) error { return fs.ErrPermission }

// Sync fails.
func (noFile) Sync() error { return fs.ErrPermission }

// Close does nothing.
func (noFile) Close() error { return nil }

func lockedLedger(f *os.File, dir string, now func() time.Time, bootID string) (*Ledger, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, refuse(CodeLedger, "open ledger of outbound keys: %s is in use by another ovs-ipsec-offload; stop that one first", f.Name())
	} else if err != nil {
		return nil, refuse(CodeLedger, "open ledger of outbound keys: lock %s: %w", f.Name(), err)
	}
	// The entries of the directories must be on the disk before the first key
	// is installed, and nobody knows whether an earlier start came that far.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := syncDir(d); err != nil {
			return nil, refuse(CodeLedger, "open ledger of outbound keys: %w", err)
		}
	}
	l, err := NewLedger(f, now, bootID)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return l, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
