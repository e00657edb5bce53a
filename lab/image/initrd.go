// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"
)

// A cpioEntry is one member of an initial RAM disk.
type cpioEntry struct {
	name string // relative, no leading slash
	mode uint32 // st_mode, type and permissions
	data []byte
}

const (
	modeDir  = 0o040755
	modeFile = 0o100644
	modeExec = 0o100755
)

// writeCPIO writes entries in the "newc" form that the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst).
func writeCPIO(w io.Writer, entries []cpioEntry) error {
	var buf bytes.Buffer
	for i, e := range append(entries, cpioEntry{name: "TRAILER!!!"}) {
		fields := []any{
			i + 1, e.mode, 0, 0, 1, 0, len(e.data), // inode, mode, uid, gid, links, mtime, size
			0, 0, 0, 0, len(e.name) + 1, 0, // device, rdevice, name with its NUL, no checksum
		}
		buf.WriteString("070701")
		for _, f := range fields {
			fmt.Fprintf(&buf, "%08x", f)
		}
		buf.WriteString(e.name)
		buf.WriteByte(0)
		pad4(&buf)
		buf.Write(e.data)
		pad4(&buf)
	}
	_, err := w.Write(buf.Bytes())
	return err
}

func pad4(buf *bytes.Buffer) {
	for buf.Len()%4 != 0 {
		buf.WriteByte(0)
	}
}

// moduleOrder reads a modules.dep file and returns the files of the wanted
// modules and of all they need, each once, in an order in which insmod takes
// them. A module that the kernel has built in is not in modules.dep; builtin
// tells which those are.
func moduleOrder(modulesDep io.Reader, builtin map[string]bool, wanted []string) ([]string, error) {
	needs, files, err := readModulesDep(modulesDep)
	if err != nil {
		return nil, err
	}
	var order []string
	seen := map[string]bool{}
	var visit func(file string)
	visit = func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		for _, dep := range needs[file] {
			visit(dep)
		}
		order = append(order, file)
	}
	for _, name := range wanted {
		file, ok := files[name]
		if !ok && builtin[name] {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("find kernel module %s: not in modules.dep", name)
		}
		visit(file)
	}
	return order, nil
}

// readModulesDep returns what each module file needs, and the file of each
// module name.
func readModulesDep(r io.Reader) (needs map[string][]string, files map[string]string, err error) {
	needs, files = map[string][]string{}, map[string]string{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		file, deps, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			return nil, nil, fmt.Errorf("parse modules.dep: no colon in %q", lines.Text())
		}
		needs[file] = strings.Fields(deps)
		files[moduleName(file)] = file
	}
	return needs, files, lines.Err()
}

// moduleName gives a module's name from its file: "kernel/fs/ext4/ext4.ko.xz"
// is ext4. The kernel takes - and _ for the same.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}
