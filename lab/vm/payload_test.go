// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/lab/guest"
)

// readTar returns the members of an archive as "mode text", "dir" or "-> link".
func readTar(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	members := map[string]string{}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			members[h.Name] = "dir"
		case tar.TypeSymlink:
			members[h.Name] = "-> " + h.Linkname
		default:
			members[h.Name] = h.FileInfo().Mode().String() + " " + string(text)
		}
	}
}

func TestPayload(t *testing.T) {
	host := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(host, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	self := write("lab", "self", 0o600)
	script := write("s.sh", "script", 0o600)
	write("dir/a", "a", 0o640)
	write("dir/sub/b", "b", 0o755)
	if err := os.Symlink("a", filepath.Join(host, "dir/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dir", filepath.Join(host, "alias")); err != nil {
		t.Fatal(err)
	}
	plan := guest.Plan{Argv: []string{"/lab/work/s.sh", "x y"}, Hypervisors: 2}
	disk, err := payloadDisk(self, plan, []File{
		{From: script, To: "work/s.sh", Mode: 0o755}, {From: filepath.Join(host, "alias"), To: "work/d"}, {To: "out/empty"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	st, err := disk.Stat()
	if err != nil || st.Size()%sectorSize != 0 {
		t.Fatalf("size %d, %v", st.Size(), err)
	}
	got := readTar(t, io.NewSectionReader(disk, 0, st.Size()))
	for name := range got {
		if strings.HasPrefix(name, "bin/") || strings.HasPrefix(name, "lib/") {
			delete(got, name)
		}
	}
	text, _ := json.Marshal(plan)
	want := map[string]string{
		"plan.json": "-rw------- " + string(text), "work/": "dir", "out/": "dir", "out/empty/": "dir",
		"init": "-rwxr-xr-x self", "work/s.sh": "-rwxr-xr-x script",
		"work/d/": "dir", "work/d/a": "-rw-r----- a", "work/d/sub/": "dir", "work/d/sub/b": "-rwxr-xr-x b",
		"work/d/link": "-> a",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPayloadBringsTheScripts(t *testing.T) {
	var buf bytes.Buffer
	if err := writePayload(&buf, os.Args[0], guest.Plan{}, nil); err != nil {
		t.Fatal(err)
	}
	got := readTar(t, &buf)
	for _, name := range []string{"bin/lab-hv", "bin/lab-vm", "bin/lab-ovs", "bin/lab-nic", "bin/lab-wire", "lib/topology"} {
		if !strings.HasPrefix(got[name], "-rwxr-xr-x #!/bin/sh\n") {
			t.Errorf("%s: %.40q", name, got[name])
		}
	}
}

func TestPayloadOfMissingFile(t *testing.T) {
	_, err := payloadDisk(os.Args[0], guest.Plan{}, []File{{From: "/does/not/exist", To: "work/x"}})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("error %v", err)
	}
}
