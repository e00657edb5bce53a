// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestReplacedRow: OVN deletes a row and inserts another under the same name in
// one transaction. Nobody may ever see the tunnel missing: it would be torn down.
func TestReplacedRow(t *testing.T) {
	s := startServer(t)
	ports := tunnels(100)
	s.add(ports...)
	want := make([]string, len(ports))
	for i := range ports {
		want[i] = ports[i].name
	}
	conn := session0(t, s.sock)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := transact(s.sock, replacement(ports)); err != nil {
				done <- err
				return
			}
		}
	}()
	readers, good, refused := 8, atomic.Int64{}, atomic.Int64{}
	var g errgroup.Group
	for range readers {
		g.Go(func() error {
			// Until the race that read guards against was seen to happen.
			for end := time.Now().Add(limit); good.Load() < 300 || refused.Load() < 10; {
				if time.Now().After(end) {
					return fmt.Errorf("only %d reads between and %d reads during transactions: nothing shown", good.Load(), refused.Load())
				}
				hosts, interfaces, ok := conn.read()
				if !ok {
					refused.Add(1)
					continue
				}
				good.Add(1)
				if got := names(snapshotOf(hosts, portsOf(interfaces))); !slices.Equal(got, want) {
					return fmt.Errorf("read %d of %d tunnels in the midst of a transaction", len(got), len(want))
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestSettled shows what read relies on: libovsdb's cache asks its logger
// about each row that it takes up, whatever happens to the row.
func TestSettled(t *testing.T) {
	s := startServer(t)
	conn := session0(t, s.sock)
	count := func(what string, rows uint64, change func()) {
		t.Helper()
		conn.settle(t)
		before := conn.settled()
		change()
		<-conn.dirty
		if got := conn.settled() - before; got < rows {
			t.Errorf("%s: %d marks of rows taken up, want at least %d", what, got, rows)
		}
	}
	count("insert", 3, func() { s.add(tunnels(3)...) })
	count("modify", 1, func() { s.options("ovn-000000-0", nil) })
	count("replace", 6, func() { s.transact(replacement(tunnels(3))...) })
	count("delete", 3, func() { s.transact(replacement(nil)...) })
}

// settle waits until all events of the past have been delivered.
func (s *session) settle(tb testing.TB) {
	tb.Helper()
	if err := s.probe(); err != nil { // its reply comes after all updates
		tb.Fatal(err)
	}
	for {
		select {
		case <-s.dirty:
		case <-time.After(20 * time.Millisecond):
			return
		}
	}
}

// session0 returns a session without a Watch around it.
func session0(tb testing.TB, sock string) *session {
	tb.Helper()
	at, err := parseEndpoint("unix:" + sock)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := dial(context.Background(), at, slog.New(slog.DiscardHandler), limit)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.close)
	return s
}
