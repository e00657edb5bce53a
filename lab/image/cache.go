// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/flock"
)

// A Cache is a directory that holds images and what was compiled against them.
// All checkouts of one user share it.
type Cache struct {
	dir string
	log io.Writer
	// make makes all files of an image but the mark in a directory, and
	// returns the kernel's release.
	make func(ctx context.Context, r Recipe, dir string, log io.Writer) (release string, err error)
}

// OpenCache opens the cache at dir, making the directory if it is missing.
// Progress goes to log.
func OpenCache(dir string, log io.Writer) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open lab cache: %w", err)
	}
	return &Cache{dir: dir, log: log, make: makeImage}, nil
}

// DefaultDir gives the cache directory: $OVS_IPSEC_LAB_CACHE, or
// ovs-ipsec-offload-lab in the user's cache directory.
func DefaultDir(getenv func(string) string) (string, error) {
	if dir := getenv("OVS_IPSEC_LAB_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	base := getenv("XDG_CACHE_HOME")
	if base == "" {
		home := getenv("HOME")
		if home == "" {
			return "", errors.New("find lab cache: HOME is unset; set OVS_IPSEC_LAB_CACHE")
		}
		base = filepath.Join(home, ".cache")
	}
	return filepath.Join(base, "ovs-ipsec-offload-lab"), nil
}

// Dir returns the cache's directory.
func (c *Cache) Dir() string { return c.dir }

// An Image is a complete image in the cache.
type Image struct {
	dir  string
	hash string
}

// Hash names the image.
func (i *Image) Hash() string { return i.hash }

// Disk is the root file system, a raw ext4 image. It is never written to.
func (i *Image) Disk() string { return filepath.Join(i.dir, diskFile) }

// Kernel is the kernel to boot.
func (i *Image) Kernel() string { return filepath.Join(i.dir, kernelFile) }

// Initrd is the initial RAM disk.
func (i *Image) Initrd() string { return filepath.Join(i.dir, initrdFile) }

// Tree is the root file system as a directory, to compile in.
func (i *Image) Tree() string { return filepath.Join(i.dir, treeDir) }

const (
	diskFile   = "root.ext4"
	kernelFile = "vmlinuz"
	initrdFile = "initrd"
	treeDir    = "tree"
	markFile   = "COMPLETE"
)

// A mark is written last into an image; it says what a complete one holds.
type mark struct {
	Recipe  string // hash
	Release string // kernel release, as uname -r gives it
	Files   map[string]fileMark
}

// A fileMark is what is known of one file of an image.
type fileMark struct {
	Size    int64
	ModTime time.Time
	SHA256  string
}

// Ensure returns the image of the recipe, building it if it is not in the cache
// or not whole.
func (c *Cache) Ensure(ctx context.Context, r Recipe) (*Image, error) {
	img, err := c.find(r, false)
	if err == nil {
		return img, nil
	}
	lock, err := flock.Acquire(ctx, filepath.Join(c.dir, "build.lock"), func() {
		fmt.Fprintln(c.log, "lab: waiting for another build of the image")
	})
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	img, err = c.find(r, false)
	if err == nil {
		return img, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(c.log, "lab: the cached image is broken, building it again: %v\n", err)
	}
	return c.build(ctx, r)
}

// build makes the image of the recipe in a directory of its own and moves it
// into place. The caller holds the build lock.
func (c *Cache) build(ctx context.Context, r Recipe) (*Image, error) {
	final := c.path(r)
	for _, left := range glob(final + ".build-*") {
		// What a build that was killed had started may still be ending there:
		// the next build, or Prune, tries again.
		_ = removeTree(left)
	}
	if err := removeTree(final); err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	work, err := os.MkdirTemp(c.dir, filepath.Base(final)+".build-")
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	defer func() { _ = removeTree(work) }() // not there any more if all went well
	begin := time.Now()
	release, err := c.make(ctx, r, work, c.log)
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	if err := writeMark(work, mark{Recipe: r.Hash(), Release: release}); err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	if err := errors.Join(os.Chmod(work, 0o755), os.Rename(work, final)); err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	fmt.Fprintf(c.log, "lab: image built in %.0f s\n", time.Since(begin).Seconds())
	return c.find(r, false)
}

func glob(pattern string) []string {
	names, _ := filepath.Glob(pattern) // the only error is a bad pattern
	return names
}

// Rebuild throws the image of the recipe away and builds it.
func (c *Cache) Rebuild(ctx context.Context, r Recipe) (*Image, error) {
	if err := os.RemoveAll(filepath.Join(c.path(r), markFile)); err != nil {
		return nil, fmt.Errorf("remove image: %w", err)
	}
	return c.Ensure(ctx, r)
}

// Verify compares every file of the image of the recipe with its checksum.
func (c *Cache) Verify(r Recipe) (*Image, error) {
	return c.find(r, true)
}

// Prune removes all images but the one of the recipe, and every build that
// broke off.
func (c *Cache) Prune(ctx context.Context, r Recipe) error {
	lock, err := flock.Acquire(ctx, filepath.Join(c.dir, "build.lock"), func() {
		fmt.Fprintln(c.log, "lab: waiting for a build of the image")
	})
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, e := range glob(filepath.Join(c.dir, "image-*")) {
		if e == c.path(r) {
			continue
		}
		fmt.Fprintf(c.log, "lab: removing %s\n", e)
		if err := removeTree(e); err != nil {
			return fmt.Errorf("prune cache: %w", err)
		}
	}
	return nil
}

func (c *Cache) path(r Recipe) string {
	return filepath.Join(c.dir, "image-"+r.Hash())
}

// find looks the image up. Without sums, a file whose size and time are those
// of the mark is taken for whole; any other is read and compared.
func (c *Cache) find(r Recipe, sums bool) (*Image, error) {
	img := &Image{dir: c.path(r), hash: r.Hash()}
	m, err := readMark(filepath.Join(img.dir, markFile))
	if err != nil {
		return nil, err
	}
	if m.Recipe != r.Hash() {
		return nil, fmt.Errorf("check image: made by recipe %s, want %s", m.Recipe, r.Hash())
	}
	for _, name := range []string{diskFile, kernelFile, initrdFile} {
		if err := checkFile(filepath.Join(img.dir, name), m.Files[name], sums); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(img.Tree()); err != nil {
		return nil, fmt.Errorf("check image: %v", err) // not ErrNotExist: the image is broken
	}
	return img, nil
}

func readMark(path string) (mark, error) {
	var m mark
	text, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("parse %s: %w", path, err)
	}
	return m, nil
}

func checkFile(path string, want fileMark, sums bool) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("check image: %v", err)
	}
	if !sums && st.Size() == want.Size && st.ModTime().Equal(want.ModTime) {
		return nil
	}
	got, err := markOf(path)
	if err != nil {
		return err
	}
	if got.SHA256 != want.SHA256 {
		return fmt.Errorf("check image: %s: checksum does not fit", path)
	}
	return nil
}

func markOf(path string) (fileMark, error) {
	f, err := os.Open(path)
	if err != nil {
		return fileMark{}, fmt.Errorf("check image: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fileMark{}, fmt.Errorf("check image: %w", err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fileMark{}, fmt.Errorf("read %s: %w", path, err)
	}
	return fileMark{Size: st.Size(), ModTime: st.ModTime(), SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// writeMark completes the image in dir, after its files have reached the disk.
func writeMark(dir string, m mark) error {
	if err := syncFS(dir); err != nil {
		return err
	}
	m.Files = map[string]fileMark{}
	for _, name := range []string{diskFile, kernelFile, initrdFile} {
		fm, err := markOf(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		m.Files[name] = fm
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, markFile), append(text, '\n'), 0o644)
}

func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}
