// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"testing"
	"time"
)

// A change is over when ovs-vswitchd says that it took it, and the watch speaks
// up then. What others change by ovs-vsctl concerns nobody here.
func TestConfigureIsTaken(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	cfg, err := w.SetHWOffload(context.Background(), "true")
	if err != nil {
		t.Fatal(err)
	}
	snap, _ := w.until("the change", func(s Snapshot, _ State) bool { return s.Host.NextCfg == cfg })
	if snap.Host.CurCfg >= cfg {
		t.Fatalf("CurCfg %d before ovs-vswitchd took %d", snap.Host.CurCfg, cfg)
	}
	s.taken()
	w.until("ovs-vswitchd to take it", func(s Snapshot, _ State) bool { return s.Host.CurCfg >= cfg })
	w.forget()

	s.transact(obj{"op": "mutate", "table": "Open_vSwitch", "where": all, "mutations": []any{[]any{"next_cfg", "+=", 1}}})
	s.taken()
	poll(t, "the counters to follow", func() bool { now, _ := w.Current(); return now.Host.CurCfg == cfg+1 && now.Host.NextCfg == cfg+1 })
	select {
	case <-w.Changed():
		t.Error("a stranger's change that changed nothing woke the reader")
	default:
	}
}

// ovs-vswitchd may be done before the one who asked it knows the number.
func TestConfigureTakenAtOnce(t *testing.T) {
	s := startServer(t)
	w := follow(t, s.sock)
	w.tunnels()
	s.transact(obj{"op": "update", "table": "Open_vSwitch", "where": all, "row": obj{"cur_cfg": 7, "next_cfg": 7}})
	poll(t, "the counters", func() bool { now, _ := w.Current(); return now.Host.CurCfg == 7 })
	w.await(7)
	select {
	case <-w.Changed():
	case <-time.After(limit):
		t.Error("nobody was told")
	}
}
