// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// FileSystem is where the files are. Paths are absolute.
type FileSystem interface {
	Stat(path string) (fs.FileInfo, error) // follows symbolic links
	Open(path string) (fs.File, error)
}

// Host is the FileSystem of this host.
type Host struct{}

// Stat is os.Stat.
func (Host) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// Open opens a file for reading. It does not wait for the writer of a named pipe.
func (Host) Open(path string) (fs.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// Store reads files, and reads one again only when it changed. A Store is for one
// goroutine.
type Store struct {
	fsys FileSystem
	uid  int // besides root, whose files are believed
	seen map[Ref]reading
}

// reading is what a file gave when it had the identity id.
type reading struct {
	id      fileID
	content Content
}

// fileID changes whenever a file is replaced, written or given other rights.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// NewStore returns a Store that believes files of root and of the user uid.
func NewStore(fsys FileSystem, uid int) *Store {
	return &Store{fsys: fsys, uid: uid, seen: make(map[Ref]reading)}
}

// Read returns what the files hold. It costs one stat for each file that is as it
// was.
func (s *Store) Read(refs []Ref) Files {
	files := make(Files, len(refs))
	for _, ref := range refs {
		if _, done := files[ref]; !done {
			files[ref] = s.lookup(ref)
		}
	}
	return files
}

// Keep forgets what was read of all files but refs, which are sorted as AllRefs
// sorts them.
func (s *Store) Keep(refs []Ref) {
	maps.DeleteFunc(s.seen, func(ref Ref, _ reading) bool {
		_, is := slices.BinarySearchFunc(refs, ref, Ref.compare)
		return !is
	})
}

func (s *Store) lookup(ref Ref) Content {
	info, err := s.fsys.Stat(ref.Path)
	if err != nil {
		delete(s.seen, ref)
		return Content{Problem: unreadable(ref, err)}
	}
	if r, is := s.seen[ref]; is && r.id == idOf(info) {
		return r.content
	}
	content, id := s.read(ref)
	s.seen[ref] = reading{id, content}
	return content
}

// read opens, checks and parses a file. The checks are made on the open file, so
// that nothing can be exchanged between check and use.
func (s *Store) read(ref Ref) (Content, fileID) {
	f, err := s.fsys.Open(ref.Path)
	if err != nil {
		return Content{Problem: unreadable(ref, err)}, fileID{}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Content{Problem: unreadable(ref, err)}, fileID{}
	}
	id := idOf(info)
	if p := judge(ref, info.Mode(), info.Size(), ownerOf(info), s.uid); p != nil {
		return Content{Problem: p}, id
	}
	data := make([]byte, info.Size())
	defer clear(data)
	if _, err := io.ReadFull(f, data); err != nil {
		return Content{Problem: unreadable(ref, err)}, fileID{} // being written: read again
	}
	return Parse(ref, data), id
}

func unreadable(ref Ref, err error) *Problem {
	if errors.Is(err, fs.ErrNotExist) {
		return problem(CodeMissing, "%s: there is no such file: install it, or name another", ref)
	}
	var op *fs.PathError
	if errors.As(err, &op) {
		err = op.Err
	}
	return problem(CodeFile, "%s: cannot be read: %v", ref, err)
}

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

func idOf(info fs.FileInfo) fileID {
	st := info.Sys().(*syscall.Stat_t)
	return fileID{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}
