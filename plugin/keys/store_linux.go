// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/xfrm"
)

// Store reads key sets from a directory, one file NAME.json for each, and only
// those that are asked for. It keeps what is public of them and reads a file
// again only when the file changed. A Store is for one goroutine.
type Store struct {
	dir  string
	seen map[string]reading
}

// reading is what a file gave when it had the identity id.
type reading struct {
	id  fileID
	set Set
	err error
}

// fileID changes whenever a file is replaced, written or given other rights.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// NewStore returns a Store for a directory, which may come to be later.
func NewStore(dir string) *Store {
	return &Store{dir: dir, seen: make(map[string]reading)}
}

// Lookup returns what may be known of the key set name. It costs one stat when
// the file is as it was. Refusals are an *Error.
func (s *Store) Lookup(name string) (Set, error) {
	if !ValidName(name) {
		return Set{}, refuse(CodeName, "read key set: the name %q must match %s", name, validName)
	}
	info, err := os.Stat(filepath.Join(s.dir, name+".json"))
	if err != nil {
		delete(s.seen, name)
		return Set{}, s.unreadable(name, err)
	}
	if r, ok := s.seen[name]; ok && r.id == idOf(info) {
		return r.set, r.err
	}
	set, id, err := s.read(name)
	set.Wipe()
	s.seen[name] = reading{id: id, set: set.Public(), err: err}
	return set.Public(), err
}

// Material reads the keys of a set that Lookup returned. It refuses when the
// file holds other keys by now. The caller wipes both keys after use.
func (s *Store) Material(want Set) (in, out xfrm.Key, err error) {
	got, _, err := s.read(want.Name)
	if err != nil {
		delete(s.seen, want.Name)
		return xfrm.Key{}, xfrm.Key{}, err
	}
	if got.Public() != want.Public() {
		got.Wipe()
		delete(s.seen, want.Name)
		return xfrm.Key{}, xfrm.Key{}, refuse(CodeChanged, "read key set %s: the file was replaced meanwhile; it is read again", want.Name)
	}
	return got.In.Key, got.Out.Key, nil
}

// read opens, checks and parses one file. os.Root keeps symbolic links inside
// the directory; the checks are made on the open file, so nothing can be
// exchanged between check and use.
func (s *Store) read(name string) (Set, fileID, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return Set{}, fileID{}, s.unreadable(name, err)
	}
	defer root.Close()
	if err := s.checkDir(root, name); err != nil {
		return Set{}, fileID{}, err
	}
	// O_NONBLOCK: opening a named pipe must not wait for a writer.
	f, err := root.OpenFile(name+".json", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Set{}, fileID{}, s.unreadable(name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Set{}, fileID{}, s.unreadable(name, err)
	}
	id := idOf(info)
	if err := s.checkFile(info, name); err != nil {
		return Set{}, id, err
	}
	data := make([]byte, info.Size())
	defer clear(data)
	if _, err := io.ReadFull(f, data); err != nil {
		return Set{}, id, s.unreadable(name, err)
	}
	set, err := Parse(name, data)
	return set, id, err
}

func (s *Store) checkDir(root *os.Root, name string) error {
	info, err := root.Stat(".")
	if err != nil {
		return s.unreadable(name, err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return refuse(CodeMode, "read key set %s: others may write to %s (mode %04o); run: chmod go-w %s",
			name, s.dir, info.Mode().Perm(), s.dir)
	}
	return checkOwner(info, name, s.dir)
}

func (s *Store) checkFile(info fs.FileInfo, name string) error {
	path := filepath.Join(s.dir, name+".json")
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return refuse(CodeFile, "read key set %s: %s is not a regular file", name, path)
	case mode.Perm()&0o077 != 0:
		return refuse(CodeMode, "read key set %s: others may read or write %s (mode %04o); make new keys if anybody could have, then run: chmod 600 %s",
			name, path, mode.Perm(), path)
	case info.Size() > MaxFile:
		return refuse(CodeFile, "read key set %s: %s has %d bytes, a key set has at most %d", name, path, info.Size(), MaxFile)
	}
	return checkOwner(info, name, path)
}

// checkOwner refuses what belongs neither to root nor to the daemon's user.
func checkOwner(info fs.FileInfo, name, path string) error {
	st := info.Sys().(*syscall.Stat_t)
	if st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return refuse(CodeMode, "read key set %s: %s belongs to user %d; run: chown root: %s", name, path, st.Uid, path)
}

func (s *Store) unreadable(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(CodeMissing, "read key set %s: %w; install this host's file of that set in %s; if there is none, make a set with \"ovs-ipsec-offload keys new\" and name it on both hosts", name, err, s.dir)
	}
	return refuse(CodeFile, "read key set %s: %w", name, err)
}

func idOf(info fs.FileInfo) fileID {
	st := info.Sys().(*syscall.Stat_t)
	return fileID{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}
