// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vswitchd plays the control socket of an ovs-vswitchd in a run directory and
// passes on the methods it is asked for.
func vswitchd(t *testing.T, answer string) (Vswitchd, <-chan string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ovs-vswitchd.pid"), []byte("4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "ovs-vswitchd.4711.ctl"))
	if err != nil {
		t.Fatal(err)
	}
	asked, ended := make(chan string, 8), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var request struct {
				Method string   `json:"method"`
				Params []string `json:"params"`
			}
			if err := json.NewDecoder(c).Decode(&request); err == nil {
				asked <- strings.Join(append([]string{request.Method}, request.Params...), " ")
				fmt.Fprint(c, answer)
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return Vswitchd{RunDir: dir}, asked
}

func TestVswitchdPurge(t *testing.T) {
	v, asked := vswitchd(t, `{"id":0,"result":"","error":null}`)
	if err := v.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := []string{<-asked, <-asked}
	if d := cmp.Diff([]string{"version", "revalidator/purge"}, got); d != "" {
		t.Error(d)
	}
}

func TestVswitchdCall(t *testing.T) {
	v, asked := vswitchd(t, `{"id":0,"result":"flow table","error":null}`)
	text, err := v.Call(t.Context(), "bridge/dump-flows", "br-int")
	if err != nil || text != "flow table" || <-asked != "bridge/dump-flows br-int" {
		t.Fatalf("got %q, %v", text, err)
	}
}

func TestVswitchdRefuses(t *testing.T) {
	v, _ := vswitchd(t, `{"id":0,"result":null,"error":"\"nosuch\" is not a valid command\n"}`)
	_, err := v.Call(t.Context(), "nosuch")
	if err == nil || !strings.Contains(err.Error(), `call ovs-vswitchd nosuch: "nosuch" is not a valid command`) {
		t.Fatalf("got %v", err)
	}
}

// Without ovs-vswitchd there are no flows to look at again.
func TestVswitchdStopped(t *testing.T) {
	v := Vswitchd{RunDir: t.TempDir()}
	if err := v.Purge(t.Context()); err != nil {
		t.Errorf("purge: %v", err)
	}
	if _, err := v.Call(t.Context(), "version"); !os.IsNotExist(err) {
		t.Errorf("call: got %v, want %v", err, fs.ErrNotExist)
	}
}

// A server that takes the call and never answers is left when the time is over.
func TestVswitchdSilent(t *testing.T) {
	v, _ := vswitchd(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Call(ctx, "version"); err == nil {
		t.Error("a call that was called off returned no error")
	}
}

func TestVswitchdRunning(t *testing.T) {
	v, _ := vswitchd(t, "")
	if runs, err := v.Running(t.Context()); !runs || err != nil {
		t.Errorf("with a socket: %v, %v", runs, err)
	}
	if runs, err := (Vswitchd{RunDir: t.TempDir()}).Running(t.Context()); runs || err != nil {
		t.Errorf("without files: %v, %v", runs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if runs, err := v.Running(ctx); runs || err == nil {
		t.Errorf("called off: %v, %v", runs, err)
	}
	if err := os.WriteFile(filepath.Join(v.RunDir, "ovs-vswitchd.pid"), []byte("many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if runs, err := v.Running(t.Context()); runs || err == nil {
		t.Errorf("with a pid file of nonsense: %v, %v", runs, err)
	}
}

// A killed ovs-vswitchd leaves its files.
func TestVswitchdKilled(t *testing.T) {
	v, _ := vswitchd(t, "")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(v.RunDir, "ovs-vswitchd.4712.ctl"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := os.WriteFile(filepath.Join(v.RunDir, "ovs-vswitchd.pid"), []byte("4712\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if runs, err := v.Running(t.Context()); runs || err != nil {
		t.Errorf("running: %v, %v", runs, err)
	}
	if err := v.Purge(t.Context()); err != nil {
		t.Errorf("purge: %v", err)
	}
}
