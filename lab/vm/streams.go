// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"

	"ovs-ipsec-offload/lab/guest"
)

// A stream copies one of the machine's ports to where it goes on the host and
// counts.
type stream struct {
	to io.Writer

	mu    sync.Mutex
	n     int64
	want  int64 // -1: not known yet
	ended bool
	done  chan struct{} // closed when want bytes were copied, or the port ended
}

// newStream returns a stream whose length is not known yet.
func newStream(to io.Writer) *stream {
	return &stream{to: to, want: -1, done: make(chan struct{})}
}

// copy reads from until it ends. What the reader of the output does not take
// (a closed pipe, say) is dropped, so that the machine does not block on it.
func (s *stream) copy(from io.Reader) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			_, _ = s.to.Write(buf[:n])
			s.add(int64(n))
		}
		if err != nil {
			s.end()
			return
		}
	}
}

// add counts n more bytes.
func (s *stream) add(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += n
	s.check()
}

// end notes that nothing more comes.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = s.n
	s.check()
}

// expect says how many bytes the stream has in all.
func (s *stream) expect(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = n
	s.check()
}

// check ends the stream when all of it is there. The caller holds mu.
func (s *stream) check() {
	if s.want >= 0 && s.n >= s.want && !s.ended {
		s.ended = true
		close(s.done)
	}
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int

	mu  sync.Mutex
	buf []byte
}

// Write keeps b and forgets the oldest bytes beyond the limit. It never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// String returns what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(string(t.buf), "\r", "")
}

// results is what the machine sent when the script had ended.
type results struct {
	kernelLog string
	err       error
	done      chan struct{}
}

// receiveResults unpacks the archive of results; files go below dir, or nowhere
// if dir is empty.
func receiveResults(from io.Reader, dir string) *results {
	r := &results{done: make(chan struct{})}
	go func() {
		r.err = r.unpack(tar.NewReader(from), dir)
		close(r.done)
		_, _ = io.Copy(io.Discard, from) // the archive's padding
	}()
	return r
}

func (r *results) unpack(archive *tar.Reader, dir string) error {
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive results: %w", err)
		}
		if header.Name == guest.KernelLogName {
			text, err := io.ReadAll(archive)
			if err != nil {
				return fmt.Errorf("receive kernel log: %w", err)
			}
			r.kernelLog = string(text)
			continue
		}
		name, ok := strings.CutPrefix(header.Name, guest.OutPrefix)
		if !ok || dir == "" {
			continue
		}
		if err := unpackOne(archive, header, dir, name); err != nil {
			return fmt.Errorf("receive %s: %w", name, err)
		}
	}
}

// unpackOne writes one file below dir; os.Root keeps it there whatever its name.
func unpackOne(archive io.Reader, header *tar.Header, dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if header.Typeflag == tar.TypeDir {
		return root.MkdirAll(path.Clean(name), 0o755)
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, header.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, archive); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
