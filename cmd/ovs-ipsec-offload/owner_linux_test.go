// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/ovsdb/unixctl"
)

// holdPIDFile locks dir's pid file of ovs-monitor-ipsec, for the open file and not
// for this process, so that a look from here sees it too (fcntl(2)).
func holdPIDFile(dir string) (*os.File, error) {
	f, err := os.Create(filepath.Join(dir, "ovs-monitor-ipsec.pid"))
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(f, 4711)
	return f, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// monitorIPsec DIR plays ovs-monitor-ipsec until the script ends.
func monitorIPsec(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: monitor-ipsec DIR")
	}
	f, err := holdPIDFile(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { f.Close() })
}

func TestRival(t *testing.T) {
	dir := t.TempDir()
	place := unixctl.NewPlace(dir, monitorName)
	if p, err := rival(place); p != nil || err != nil {
		t.Fatalf("without a pid file: %v, %v", p, err)
	}
	f, err := holdPIDFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := rival(place)
	if err != nil || p == nil || p.Code != "OWNER_RIVAL" || !strings.Contains(p.Text, "process 4711 holds "+f.Name()) {
		t.Errorf("while it runs: %v, %v", p, err)
	}
	f.Close()
	if p, err := rival(place); p != nil || err != nil {
		t.Errorf("a pid file that nobody holds is left over: %v, %v", p, err)
	}
	l, err := place.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if p, err := rival(place); p != nil || err != nil {
		t.Errorf("our own: %v, %v", p, err)
	}
	if err := place.Leave(); err != nil {
		t.Error(err)
	}
}

func TestRunDir(t *testing.T) {
	for endpoint, want := range map[string]string{"unix:/run/ovs/db.sock": "/run/ovs", "tcp:127.0.0.1:6640": "/run/openvswitch"} {
		if got := runDirOf(endpoint); got != want {
			t.Errorf("%s: %s, want %s", endpoint, got, want)
		}
	}
}
