// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// makeImage makes an image's files with Debian's tools.
func makeImage(ctx context.Context, r Recipe, dir string, log io.Writer) (release string, err error) {
	if err := checkHost(os.Geteuid(), exec.LookPath); err != nil {
		return "", err
	}
	// What the programs below mount is to vanish with them, and they with us,
	// however that ends: see run.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fmt.Fprintf(log, "lab: building the image %s (once; takes one to a few minutes)\n", dir)
	b := builder{ctx: ctx, recipe: r, dir: dir, log: log}
	for _, step := range []func() error{b.bootstrap, b.kernel, b.initrd, b.disk, b.prune} {
		if err := step(); err != nil {
			return "", err
		}
	}
	return b.release, nil
}

// checkHost says what the host lacks to build an image, and how to get it.
func checkHost(euid int, lookPath func(string) (string, error)) error {
	var missing []string
	for _, p := range []struct{ program, pkg string }{
		{"mmdebstrap", "mmdebstrap"}, {"mke2fs", "e2fsprogs"}, {"chroot", "coreutils"},
	} {
		if _, err := lookPath(p.program); err != nil {
			missing = append(missing, p.pkg)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the host lacks programs; get them with: apt-get install %s",
			strings.Join(missing, " "))
	}
	if euid != 0 {
		return errors.New("needs root (mmdebstrap makes device nodes and files of many owners); " +
			"run `lab/lab image` as root once, or set OVS_IPSEC_LAB_CACHE to a cache that has the image")
	}
	return nil
}

// A builder makes one image in dir, step by step.
type builder struct {
	ctx     context.Context
	recipe  Recipe
	dir     string
	log     io.Writer
	release string // kernel release, known after kernel
}

func (b *builder) path(name string) string { return filepath.Join(b.dir, name) }

// run runs a program and, if it fails, returns the end of its output. The
// program has mounts of its own: mmdebstrap mounts the kernel's file systems in
// the tree, and if it were killed, they would stay there. It dies when this
// thread does, hence the lock in makeImage.
func (b *builder) run(name string, arg ...string) error {
	cmd := exec.CommandContext(b.ctx, name, arg...)
	cmd.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGTERM}
	// An interrupt must let mmdebstrap unmount what it mounted.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w\n%s", name, err, lastLines(out, 25))
	}
	return nil
}

func lastLines(text []byte, n int) []byte {
	lines := bytes.SplitAfter(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], nil)
}

func (b *builder) step(what string) {
	fmt.Fprintf(b.log, "lab:   %s\n", what)
}

func (b *builder) bootstrap() error {
	b.step("Debian " + b.recipe.Suite + " by mmdebstrap")
	if err := b.run("mmdebstrap", bootstrapArgs(b.recipe, b.path(treeDir), keyring())...); err != nil {
		return fmt.Errorf("%w\nIs the Debian mirror reachable, and package debian-archive-keyring installed?", err)
	}
	return nil
}

// keyring returns the archive keys to trust. An older Debian trusts, by
// default, only the keys of its own release; the keyring file has them all.
func keyring() string {
	const file = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// bootstrapArgs gives mmdebstrap's arguments: no mirror, so that its default
// (or the host's configuration) decides.
func bootstrapArgs(r Recipe, tree, keyring string) []string {
	args := []string{
		"--mode=root", "--variant=minbase", "--architectures=" + r.Arch,
		`--aptopt=Acquire::Languages "none"`, `--aptopt=APT::Install-Recommends "false"`,
		"--include=" + strings.Join(r.Packages, ","),
	}
	if keyring != "" {
		args = append(args, "--keyring="+keyring)
	}
	for _, glob := range r.Exclude {
		args = append(args, "--dpkgopt=path-exclude="+glob)
	}
	for _, pkg := range r.Beside {
		args = append(args, "--customize-hook="+besideHook(pkg))
	}
	return append(args, r.Suite, tree)
}

// besideHook is a shell command, run by mmdebstrap with the tree as $1, that
// unpacks a package under /opt.
func besideHook(pkg string) string {
	return fmt.Sprintf(`cd "$1/opt" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq -o APT::Sandbox::User=root download %[1]s && `+
		`dpkg-deb -x %[1]s_*.deb "$1/opt/%[1]s" && rm %[1]s_*.deb`, pkg)
}

// kernel takes the kernel out of the tree.
func (b *builder) kernel() error {
	found := glob(b.path(treeDir + "/boot/vmlinuz-*"))
	if len(found) != 1 {
		return fmt.Errorf("find the kernel: want one /boot/vmlinuz-*, found %d", len(found))
	}
	b.release = strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-")
	return copyFile(b.path(kernelFile), found[0], 0o644)
}

func copyFile(to, from string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}

// initrd writes the initial RAM disk: busybox, the recipe's init and modules.
func (b *builder) initrd() error {
	b.step("initial RAM disk")
	busybox, err := os.ReadFile(b.path(treeDir + "/bin/busybox"))
	if err != nil {
		return err
	}
	entries := []cpioEntry{
		{name: "bin", mode: modeDir}, {name: "dev", mode: modeDir}, {name: "proc", mode: modeDir},
		{name: "root", mode: modeDir},
		{name: "bin/busybox", mode: modeExec, data: busybox},
		{name: "bin/sh", mode: modeExec, data: busybox},
		{name: "init", mode: modeExec, data: []byte(b.recipe.Init)},
	}
	modules, err := b.bootModules()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := writeCPIO(&out, append(entries, modules...)); err != nil {
		return err
	}
	return os.WriteFile(b.path(initrdFile), out.Bytes(), 0o644)
}

// bootModules returns the modules, uncompressed (busybox's insmod takes no xz),
// and the list "modules" in the order of loading.
func (b *builder) bootModules() ([]cpioEntry, error) {
	top := b.path(treeDir + "/usr/lib/modules/" + b.release)
	dep, err := os.Open(filepath.Join(top, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer dep.Close()
	builtin, err := os.ReadFile(filepath.Join(top, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	order, err := moduleOrder(dep, builtinModules(string(builtin)), b.recipe.BootModules)
	if err != nil {
		return nil, err
	}
	var entries []cpioEntry
	var list strings.Builder
	for _, file := range order {
		data, err := b.readModule(filepath.Join(top, file))
		if err != nil {
			return nil, fmt.Errorf("read module %s: %w", file, err)
		}
		name := moduleName(file) + ".ko"
		entries = append(entries, cpioEntry{name: name, mode: modeFile, data: data})
		fmt.Fprintln(&list, name)
	}
	return append(entries, cpioEntry{name: "modules", mode: modeFile, data: []byte(list.String())}), nil
}

// readModule reads a module, using the tree's own xz if it is compressed.
func (b *builder) readModule(file string) ([]byte, error) {
	if !strings.HasSuffix(file, ".xz") {
		return os.ReadFile(file)
	}
	inside := strings.TrimPrefix(file, b.path(treeDir))
	return exec.CommandContext(b.ctx, "chroot", b.path(treeDir), "xz", "-dc", inside).Output()
}

// builtinModules reads modules.builtin: one file a line.
func builtinModules(text string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		names[moduleName(strings.TrimSpace(line))] = true
	}
	return names
}

// disk makes the root file system from the tree.
func (b *builder) disk() error {
	b.step("root file system by mke2fs")
	mib, err := treeMiB(b.path(treeDir))
	if err != nil {
		return err
	}
	size := fmt.Sprintf("%dM", mib+mib/8+b.recipe.SpareMiB)
	// No journal: the disk is thrown away after each run.
	return b.run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", "lab",
		"-d", b.path(treeDir), b.path(diskFile), size)
}

// treeMiB returns the size of a directory's files, each rounded up to 4 KiB.
func treeMiB(dir string) (int, error) {
	var blocks int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		blocks += 1
		if info.Mode().IsRegular() {
			blocks += (info.Size() + 4095) / 4096
		}
		return nil
	})
	return int(blocks / 256), err
}

// prune takes out of the tree what compiling a module does not need.
func (b *builder) prune() error {
	for _, dir := range []string{"usr/lib/modules/" + b.release + "/kernel", "boot", "var/cache", "opt"} {
		if err := os.RemoveAll(b.path(treeDir + "/" + dir)); err != nil {
			return err
		}
	}
	return nil
}
