// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// File is what a Ledger needs of its file. Write appends.
type File interface {
	io.ReadWriteCloser
	Truncate(size int64) error
	Sync() error
}

// Ledger remembers on disk which outbound keys were given to the kernel, so
// that none is given twice. It is append-only; the last line about a key counts.
// A Ledger may be used by several goroutines.
type Ledger struct {
	now    func() time.Time
	bootID string

	writing sync.Mutex // held from the check of a key to its line being on the disk
	file    File
	fresh   map[xfrm.Fingerprint]bool // reserved since the ledger was opened
	owed    []record                  // to be written with the next records
	size    int64                     // of the good part of the file
	dirty   bool                      // what follows the good part is unknown

	mu   sync.RWMutex // of what Used reads; never held while writing
	used map[xfrm.Fingerprint]bool
	torn []string // starts of fingerprints
}

// NewLedger reads a ledger from its start; it does not write. It fails when a
// line other than an unfinished last one cannot be understood.
func NewLedger(f File, now func() time.Time, bootID string) (*Ledger, error) {
	l := &Ledger{
		file: f, now: now, bootID: bootID,
		used: make(map[xfrm.Fingerprint]bool), fresh: make(map[xfrm.Fingerprint]bool),
	}
	tail, err := l.load()
	if err != nil {
		return nil, err
	}
	l.dirty = len(tail) > 0
	if digits, ok := tornKey(tail); ok {
		l.torn = append(l.torn, digits)
		l.owed = []record{{Key: digits, Event: eventTorn, Time: now().UTC(), BootID: bootID}}
	}
	return l, nil
}

// load reads every whole line and returns the start of what follows the last.
func (l *Ledger) load() (tail []byte, err error) {
	r := bufio.NewReaderSize(l.file, maxLine)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			line, err = skipLine(r, line)
		}
		if errors.Is(err, io.EOF) {
			return line, nil
		} else if err != nil {
			return nil, refuse(CodeLedger, "read ledger of outbound keys: %w", err)
		}
		rec, err := parseLine(line)
		if err != nil {
			return nil, refuse(CodeLedger, "read ledger of outbound keys: line %d is damaged: %w; "+
				"it is no longer known which keys were used, so make new key sets for every pair of this host, "+
				"and only then move the file away", n, err)
		}
		l.take(rec)
		l.size += int64(len(line))
	}
}

// skipLine reads on to the end of a line that is too long to be one of ours and
// returns its start. A file system may leave a long row of zeros at the end.
func skipLine(r *bufio.Reader, start []byte) ([]byte, error) {
	start = bytes.Clone(start)
	for {
		_, err := r.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return start, err
		}
	}
}

func (l *Ledger) take(r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r.Event {
	case eventTorn:
		l.torn = append(l.torn, r.Key)
	case eventInstall:
		l.used[fingerprint(r.Key)] = true
	case eventRefused:
		delete(l.used, fingerprint(r.Key))
	}
}

// Used tells whether a key was, or may have been, given to the kernel.
func (l *Ledger) Used(key xfrm.Fingerprint) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.used[key] {
		return true
	}
	for _, t := range l.torn {
		if strings.HasPrefix(key.String(), t) {
			return true
		}
	}
	return false
}

// Reserve writes down that the keys are about to be installed and returns when
// that is on the disk. On any error, one that a key was used before among them,
// none of them may be installed.
func (l *Ledger) Reserve(ctx context.Context, entries []Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	batch := make(map[xfrm.Fingerprint]bool, len(entries))
	for _, e := range entries {
		if l.Used(e.Key) || batch[e.Key] {
			return refuse(CodeUsed, "install key set %s: its outbound key was installed before and must not be used twice", e.Name)
		}
		batch[e.Key] = true
	}
	if err := l.append(l.records(eventInstall, entries)); err != nil {
		return err
	}
	maps.Copy(l.fresh, batch)
	return nil
}

// Refused writes down that the kernel answered the installation of keys with an
// error, so that they were not used and may be tried again. It must not be
// called when the outcome is unknown. On an error they go on counting as used,
// and so does every key that was not reserved since the ledger was opened.
func (l *Ledger) Refused(entries []Entry) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	for _, e := range entries {
		if !l.fresh[e.Key] {
			return refuse(CodeUsed, "release key set %s: its outbound key was not reserved in this run", e.Name)
		}
	}
	if err := l.append(l.records(eventRefused, entries)); err != nil {
		return err
	}
	for _, e := range entries {
		delete(l.fresh, e.Key)
	}
	return nil
}

// Close releases the file and with it the ledger for other processes.
func (l *Ledger) Close() error { return l.file.Close() }

func (l *Ledger) records(e event, entries []Entry) []record {
	now := l.now().UTC()
	recs := make([]record, len(entries))
	for i, x := range entries {
		recs[i] = record{
			Key: x.Key.String(), Event: e, Name: x.Name, SPI: fmt.Sprintf("0x%08x", x.SPI),
			Pair: x.Pair, Time: now, BootID: l.bootID,
		}
	}
	return recs
}

// append writes records in one go and takes them in once they are on the disk.
func (l *Ledger) append(recs []record) error {
	if len(recs) == 0 {
		return nil
	}
	if err := l.repair(); err != nil {
		return err
	}
	recs = append(l.owed, recs...)
	lines, err := appendLines(nil, recs)
	if err != nil {
		return unwritable(err)
	}
	l.dirty = true
	if _, err := l.file.Write(lines); err != nil {
		return unwritable(err)
	}
	if err := l.file.Sync(); err != nil {
		return unwritable(err)
	}
	l.dirty, l.owed = false, nil
	l.size += int64(len(lines))
	for _, r := range recs {
		l.take(r)
	}
	return nil
}

// repair cuts off what a failed write left behind. After a failed fsync the
// kernel may report the next one as done without having written (see
// fsync(2), EIO), so the same bytes are never trusted to a second fsync: they
// are cut off and written anew.
func (l *Ledger) repair() error {
	if !l.dirty {
		return nil
	}
	if err := l.file.Truncate(l.size); err != nil {
		return unwritable(err)
	}
	if err := l.file.Sync(); err != nil {
		return unwritable(err)
	}
	l.dirty = false
	return nil
}

func unwritable(err error) error {
	return refuse(CodeLedger, "write ledger of outbound keys: %w; no key is installed until it can be written", err)
}
