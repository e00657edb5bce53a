// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"ovs-ipsec-offload/lab/flock"
)

// Module returns the path of the kernel module NAME.ko compiled from the C
// sources in dir against the image's kernel headers, with the image's compiler.
// The result is cached by the hash of the sources.
func (c *Cache) Module(ctx context.Context, img *Image, dir, name string) (string, error) {
	src, err := moduleSources(dir)
	if err != nil {
		return "", err
	}
	ko := filepath.Join(c.dir, "module-"+img.hash+"-"+src.hash(), name+".ko")
	if _, err := os.Stat(ko); err == nil {
		return ko, nil
	}
	lock, err := flock.Acquire(ctx, filepath.Join(c.dir, "module.lock"), func() {
		fmt.Fprintln(c.log, "lab: waiting for another build of the kernel module")
	})
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(ko); err == nil {
		return ko, nil
	}
	fmt.Fprintf(c.log, "lab: compiling the kernel module %s\n", name)
	return ko, compileModule(ctx, img, src, ko)
}

// sources are the files of a kernel module, by name.
type sources map[string][]byte

// moduleSources reads what a module is compiled from. Everything else that lies
// in dir, such as the output of a compiler, is left out.
func moduleSources(dir string) (sources, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read module sources: %w", err)
	}
	src := sources{}
	for _, e := range entries {
		name := e.Name()
		if !e.Type().IsRegular() || !isModuleSource(name) {
			continue
		}
		if src[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("read module sources: %w", err)
		}
	}
	return src, nil
}

func isModuleSource(name string) bool {
	if strings.HasSuffix(name, ".mod.c") || strings.HasPrefix(name, ".") {
		return false
	}
	return slices.Contains([]string{".c", ".h", ".S"}, filepath.Ext(name)) || name == "Makefile" || name == "Kbuild"
}

func (s sources) hash() string {
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	sum := sha256.New()
	for _, name := range names {
		fmt.Fprintf(sum, "%s %d\n", name, len(s[name]))
		sum.Write(s[name])
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// compileModule compiles in a directory inside the image's tree, because the
// tree's compiler and tools run there (chroot), and moves the module to ko.
func compileModule(ctx context.Context, img *Image, src sources, ko string) error {
	if os.Geteuid() != 0 {
		return errors.New("compile kernel module: needs root (chroot into the image's tree)")
	}
	work, err := os.MkdirTemp(img.Tree(), "module-")
	if err != nil {
		return fmt.Errorf("compile kernel module: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	for name, text := range src {
		if err := os.WriteFile(filepath.Join(work, name), text, 0o644); err != nil {
			return fmt.Errorf("compile kernel module: %w", err)
		}
	}
	release, err := img.release()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "chroot", img.Tree(), "make", "-s", "-j4",
		"-C", "/lib/modules/"+release+"/build", "M=/"+filepath.Base(work), "modules")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile kernel module: %w\n%s", err, lastLines(out, 60))
	}
	return publish(filepath.Join(work, filepath.Base(ko)), ko)
}

// publish copies a file to its place in the cache, whole or not at all.
func publish(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("store %s: %w", filepath.Base(to), err)
	}
	part := fmt.Sprintf("%s.%d", to, os.Getpid())
	defer func() { _ = os.Remove(part) }() // not there any more if all went well
	if err := copyFile(part, from, 0o644); err != nil {
		return fmt.Errorf("store %s: %w", filepath.Base(to), err)
	}
	if err := os.Rename(part, to); err != nil {
		return fmt.Errorf("store %s: %w", filepath.Base(to), err)
	}
	return nil
}

// release gives the kernel release of the image, as uname -r prints it.
func (i *Image) release() (string, error) {
	m, err := readMark(filepath.Join(i.dir, markFile))
	return m.Release, err
}
