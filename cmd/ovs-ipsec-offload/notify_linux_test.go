// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	for _, name := range []string{path, "@ovs-ipsec-offload-test-" + filepath.Base(filepath.Dir(path))} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		t.Setenv("NOTIFY_SOCKET", name)
		n := newNotifier()
		if _, set := os.LookupEnv("NOTIFY_SOCKET"); set {
			t.Error("children still see NOTIFY_SOCKET")
		}
		if err := n.send("READY=1", "STATUS=ok"); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, l); got != "READY=1\nSTATUS=ok" {
			t.Errorf("got %q", got)
		}
		if err := n.reloading(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, l); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`).MatchString(got) {
			t.Errorf("got %q", got)
		}
	}
}

func TestNotifierWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := newNotifier().send("READY=1"); err != nil {
		t.Error(err)
	}
	if err := (notifier{"/nonexistent/socket"}).send("READY=1"); err == nil {
		t.Error("no error for a socket that is not there")
	}
}

func receive(t *testing.T, l *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 1000)
	n, err := l.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
