// SPDX-License-Identifier: Apache-2.0

package saved

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files, in the daemon's state directory.
const (
	// File is the State, for this program.
	File = "intent.json"
	// BatchFile says the same in iproute2's words, for "ip -batch": a boot must
	// be safe without this program.
	BatchFile = "guards.batch"
)

// Dir is the directory of the files.
type Dir string

// Load reads the state. A missing file is a first start: a zero State.
func (d Dir) Load() (State, error) {
	f, err := os.OpenFile(filepath.Join(string(d), File), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	} else if err != nil {
		return State{}, fmt.Errorf("read saved guards: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	switch {
	case err != nil:
		return State{}, fmt.Errorf("read saved guards: %w", err)
	case len(data) > MaxFile:
		return State{}, fmt.Errorf("read saved guards: %s is larger than %d bytes", f.Name(), MaxFile)
	}
	s, err := Decode(data)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return s, nil
}

// Save writes the state and the batch file. Each is replaced as a whole and is
// on the disk when Save returns; a power cut leaves the old or the new one.
func (d Dir) Save(s State, batch string) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("save guards: %w", err)
	}
	// The batch file comes first: it is the one that a boot cannot do without.
	for _, f := range []struct {
		name string
		data []byte
	}{{BatchFile, []byte(batch)}, {File, s.Encode()}} {
		if err := replace(filepath.Join(string(d), f.name), f.data); err != nil {
			return fmt.Errorf("save guards: %w", err)
		}
	}
	return syncDir(string(d))
}

// replace puts a new file in the place of path. The name of the new one is
// always the same, so that a crash leaves no more than one behind.
func replace(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("save guards: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("save guards: %w", err)
	}
	return nil
}
