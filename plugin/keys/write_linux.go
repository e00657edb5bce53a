// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// WriteFile writes a key set to dir/HOST/NAME.json, readable by its owner only,
// and returns the path. It never overwrites: key sets are made once.
func WriteFile(dir string, s Set) (path string, err error) {
	hostDir := filepath.Join(dir, s.Host)
	if err := privateDir(hostDir); err != nil {
		return "", err
	}
	path = filepath.Join(hostDir, s.Name+".json")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("write key set: %w", err)
	}
	data := s.AppendTo(make([]byte, 0, MaxFile))
	defer clear(data)
	if err := writeAndClose(f, data); err != nil {
		return "", fmt.Errorf("write key set: %w", errors.Join(err, os.Remove(path)))
	}
	return path, nil
}

func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write key set: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("write key set: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("write key set: others may enter %s (mode %04o); run: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

func writeAndClose(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
