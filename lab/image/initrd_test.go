// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// readCPIO is an independent reading of the newc form: fixed header of 13
// hexadecimal fields, name, data, each padded to 4 bytes from the beginning.
func readCPIO(t interface{ Fatalf(string, ...any) }, archive []byte) []cpioEntry {
	var entries []cpioEntry
	at := 0
	for {
		head := archive[at:]
		if string(head[:6]) != "070701" {
			t.Fatalf("at %d: magic %q", at, head[:6])
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(head[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatalf("at %d: field %d: %v", at, i, err)
			}
			return int(n)
		}
		size, nameSize := field(6), field(11)
		name := string(head[110 : 110+nameSize-1])
		if name == "TRAILER!!!" {
			return entries
		}
		data := at + (110+nameSize+3)/4*4
		entries = append(entries, cpioEntry{
			name: name, mode: uint32(field(1)), data: bytes.Clone(archive[data : data+size]),
		})
		at = (data + size + 3) / 4 * 4
	}
}

func TestCPIO(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []cpioEntry
		for i := range rapid.IntRange(0, 6).Draw(t, "entries") {
			want = append(want, cpioEntry{
				name: fmt.Sprintf("%s%d", rapid.StringMatching(`[a-z/]{0,9}`).Draw(t, "name"), i),
				mode: rapid.SampledFrom([]uint32{modeDir, modeFile, modeExec}).Draw(t, "mode"),
				data: append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "data")...),
			})
		}
		var buf bytes.Buffer
		if err := writeCPIO(&buf, want); err != nil {
			t.Fatal(err)
		}
		if buf.Len()%4 != 0 {
			t.Fatalf("length %d is not padded", buf.Len())
		}
		if d := cmp.Diff(want, readCPIO(t, buf.Bytes()), cmp.AllowUnexported(cpioEntry{})); d != "" {
			t.Fatal(d)
		}
	})
}

const modulesDep = `kernel/fs/ext4/ext4.ko.xz: kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc-base.ko.xz
kernel/fs/mbcache.ko.xz:
kernel/lib/crc-base.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz:
`

func TestModuleOrder(t *testing.T) {
	got, err := moduleOrder(strings.NewReader(modulesDep), map[string]bool{"virtio_pci": true},
		[]string{"virtio_pci", "ext4", "virtio_blk", "crc_base"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"kernel/fs/mbcache.ko.xz", "kernel/lib/crc-base.ko.xz", "kernel/fs/jbd2/jbd2.ko.xz",
		"kernel/fs/ext4/ext4.ko.xz", "kernel/drivers/block/virtio_blk.ko.xz",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestModuleOrderErrors(t *testing.T) {
	for _, c := range []struct{ dep, module, want string }{
		{modulesDep, "xfs", "find kernel module xfs: not in modules.dep"},
		{"no colon here\n", "ext4", `parse modules.dep: no colon in "no colon here"`},
	} {
		_, err := moduleOrder(strings.NewReader(c.dep), nil, []string{c.module})
		if err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestBuiltinModules(t *testing.T) {
	got := builtinModules("kernel/drivers/char/virtio-console.ko\nkernel/lib/crc16.ko\n")
	if d := cmp.Diff(map[string]bool{"virtio_console": true, "crc16": true}, got); d != "" {
		t.Error(d)
	}
}
