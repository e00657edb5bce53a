// SPDX-License-Identifier: Apache-2.0

package saved

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var addrs = cmpopts.EquateComparable(netip.Addr{})

func sample() State {
	return State{
		Boot: "b2",
		PFs:  []PF{{Handle: "pci/0000:08:00.0", Name: "pf0", Protected: "b1"}, {Handle: "pci/0000:08:00.1", Name: "pf1"}},
		Guards: []Guard{
			{Local: netip.MustParseAddr("10.0.0.1"), Port: 4789, PF: "pci/0000:08:00.0"},
			{Local: netip.MustParseAddr("fd00::1"), Port: 8472, Absent: 2},
		},
		Bypasses: []Bypass{{Local: netip.MustParseAddr("10.0.0.1"), Remote: netip.MustParseAddr("10.0.0.9"), Port: 4789, PF: "pci/0000:08:00.0"}},
	}
}

func TestEncodeDecode(t *testing.T) {
	for _, s := range []State{{}, sample()} {
		got, err := Decode(s.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got, addrs); diff != "" || !got.Equal(s) {
			t.Errorf("(-written +read):\n%s", diff)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := string(sample().Encode())
	for _, c := range []struct{ name, old, new, want string }{
		{"cut short", good[len(good)/2:], "", "unexpected EOF"},
		{"more behind", "\n}\n", "\n}\n{}", "after the end"},
		{"another version", `"version": 1`, `"version": 2`, "version 2"},
		{"unknown field", `"boot"`, `"boots"`, "unknown field"},
		{"device name with a space", `"name": "pf0"`, `"name": "pf0 x"`, "no name of a device"},
		{"device name with a comment", `"name": "pf0"`, `"name": "pf#0"`, "no name of a device"},
		{"no handle", `"handle": "pci/0000:08:00.1"`, `"handle": ""`, "no devlink handle"},
		{"handle twice", `"handle": "pci/0000:08:00.1"`, `"handle": "pci/0000:08:00.0"`, "twice"},
		{"unknown NIC", `"pf": "pci/0000:08:00.0"`, `"pf": "pci/x"`, "not in the list"},
		{"no port", `"port": 8472`, `"port": 0`, "no UDP port"},
		{"two families", `"remote": "10.0.0.9"`, `"remote": "fd00::9"`, "no address for it"},
		{"wildcard", `"remote": "10.0.0.9"`, `"remote": "0.0.0.0"`, "no address for it"},
		{"negative", `"absent": 2`, `"absent": -1`, "absent for -1"},
		{"boot id", `"boot": "b2"`, `"boot": "b 2"`, "boot id"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Fatalf("%s: nothing to replace", c.name)
		}
		if _, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample().Encode())
	f.Add([]byte(`{"version":1,"boot":"","pfs":null,"guards":[{"local":"::1","port":1}],"bypasses":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Decode(s.Encode())
		if err != nil || !again.Equal(s) {
			t.Fatalf("%v: %+v read back as %+v", err, s, again)
		}
		if !bytes.Equal(again.Encode(), s.Encode()) {
			t.Fatal("written in two ways")
		}
	})
}

func TestProtectedIn(t *testing.T) {
	s := sample()
	for _, c := range []struct {
		handle, boot string
		want         bool
	}{
		{"pci/0000:08:00.0", "b1", true}, {"pci/0000:08:00.0", "b2", false}, {"pci/0000:08:00.1", "", false}, {"pci/x", "b1", false},
	} {
		if got := s.ProtectedIn(c.handle, c.boot); got != c.want {
			t.Errorf("%s in %q: %v", c.handle, c.boot, got)
		}
	}
}

func TestDir(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "state"))
	if s, err := d.Load(); err != nil || !s.Equal(State{}) {
		t.Fatalf("first start: %+v, %v", s, err)
	}
	for _, s := range []State{sample(), {Boot: "b3"}} {
		if err := d.Save(s, "batch of "+s.Boot+"\n"); err != nil {
			t.Fatal(err)
		}
		got, err := d.Load()
		if err != nil || !got.Equal(s) {
			t.Fatalf("loaded %+v, %v", got, err)
		}
		batch, err := os.ReadFile(filepath.Join(string(d), BatchFile))
		if err != nil || string(batch) != "batch of "+s.Boot+"\n" {
			t.Fatalf("batch %q, %v", batch, err)
		}
	}
	files, err := os.ReadDir(string(d))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v: want two files", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
}

func TestDirBroken(t *testing.T) {
	d := Dir(t.TempDir())
	path := filepath.Join(string(d), File)
	if err := os.WriteFile(path, []byte(`{"version":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := d.Load(); err == nil || !strings.Contains(err.Error(), path) || !s.Equal(State{}) {
		t.Errorf("broken file: %+v, %v", s, err)
	}
	if err := os.Truncate(path, MaxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("large file: %v", err)
	}
	if err := os.Mkdir(filepath.Join(string(d), BatchFile+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(sample(), ""); err == nil {
		t.Error("saved where nothing can be written")
	}
}
