// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/ovn-kubernetes/libovsdb/cache"
	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// errClosed says that the server closed the connection.
var errClosed = errors.New("ovsdb-server closed the connection")

// session is one connection to ovsdb-server with its one monitor. It is never
// reconnected: libovsdb loses rows when it reconnects a monitor.
type session struct {
	client  client.Client
	cache   *cache.TableCache
	timeout time.Duration
	rows    atomic.Uint64

	// life ends with the session; calls in flight end with it.
	life context.Context
	end  context.CancelFunc

	dirty    chan struct{} // has a value when something changed since the last read
	broken   chan error    // has a value when the session must end
	gone     chan struct{} // closed when the connection is
	unheeded chan struct{} // closed when nobody waits for gone any more
}

// dial connects and loads the tables. Each call gets at most timeout, the
// first load, which grows with the tables, six times as long.
func dial(ctx context.Context, at endpoint, log *slog.Logger, timeout time.Duration) (*session, error) {
	s := &session{
		timeout:  timeout,
		dirty:    make(chan struct{}, 1),
		broken:   make(chan error, 1),
		gone:     make(chan struct{}),
		unheeded: make(chan struct{}),
	}
	s.life, s.end = context.WithCancel(ctx)
	if err := s.connect(at, log); err != nil {
		s.end()
		close(s.unheeded)
		return nil, err
	}
	if err := s.load(at); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) connect(at endpoint, log *slog.Logger) error {
	db, err := model.NewClientDBModel(database, map[string]model.Model{
		tableHost:      &hostRow{},
		tableInterface: &interfaceRow{},
	})
	if err != nil {
		return fmt.Errorf("describe tables: %w", err)
	}
	logger := logr.New(logSink{log: log, rows: &s.rows, fail: s.fail})
	s.client, err = client.NewOVSDBClient(db, client.WithEndpoint(at.url), client.WithLogger(&logger))
	if err != nil {
		return fmt.Errorf("make client for %s: %w", at.address, err)
	}
	// libovsdb tells of a disconnect only to somebody who is listening then.
	go s.listen()
	call, cancel := context.WithTimeout(s.life, s.timeout)
	defer cancel()
	if err := s.client.Connect(call); err != nil {
		return at.explain(call, err)
	}
	return nil
}

func (s *session) listen() {
	select {
	case <-s.client.DisconnectNotify():
		close(s.gone)
	case <-s.unheeded:
	}
}

// load starts the monitor, which fills the cache.
func (s *session) load(at endpoint) error {
	if s.cache = s.client.Cache(); s.cache == nil {
		return fmt.Errorf("load tables from %s: %w", at.address, errClosed)
	}
	s.cache.AddEventHandler(&cache.EventHandlerFuncs{
		AddFunc:    func(string, model.Model) { s.mark() },
		UpdateFunc: func(string, model.Model, model.Model) { s.mark() },
		DeleteFunc: func(string, model.Model) { s.mark() },
	})
	call, cancel := context.WithTimeout(s.life, 6*s.timeout)
	defer cancel()
	if _, err := s.client.Monitor(call, s.monitor()); err != nil {
		return fmt.Errorf("load tables from %s: %w", at.address, err)
	}
	return nil
}

// monitor asks for the columns that are read, and no others: one that the
// models lack would break every update that holds it.
func (s *session) monitor() *client.Monitor {
	i, h := &interfaceRow{}, &hostRow{}
	var types []model.Condition // a row that meets any of them is sent
	for _, t := range append(tunnelTypes(), typeSystem, "") {
		types = append(types, model.Condition{Field: &i.Type, Function: ovsdb.ConditionEqual, Value: t})
	}
	return s.client.NewMonitor(
		client.WithConditionalTable(i, types, &i.Name, &i.Type, &i.Options, &i.ExternalIDs, &i.OFPort, &i.CFMFault),
		client.WithTable(h, &h.OtherConfig, &h.ExternalIDs, &h.OVSVersion, &h.CurCfg, &h.NextCfg),
	)
}

// mark notes that something changed. libovsdb calls it under a lock.
func (s *session) mark() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// fail ends the session.
func (s *session) fail(err error) {
	select {
	case s.broken <- err:
	default:
	}
}

// read returns the rows as they stood between two transactions, or false when
// an update came in meanwhile.
func (s *session) read() ([]*hostRow, []*interfaceRow, bool) {
	before := s.settled()
	hosts := rowsOf[*hostRow](s.cache, tableHost)
	interfaces := rowsOf[*interfaceRow](s.cache, tableInterface)
	return hosts, interfaces, s.settled() == before
}

// settled waits until no update is half applied, and returns a number that grows
// with every row of an update that the cache takes up.
//
// The cache applies an update row by row, and others may read it meanwhile. But
// it holds a lock all the while that Table takes too: when Table returns, no
// update is half applied. If the number is the same before and after a copy of
// the rows, no update was begun in between.
func (s *session) settled() uint64 {
	s.cache.Table(tableInterface)
	return s.rows.Load()
}

// rowsOf returns the rows of a table, not copied: the cache replaces a row that
// changes and never writes to it.
func rowsOf[T model.Model](c *cache.TableCache, table string) []T {
	t := c.Table(table)
	if t == nil {
		return nil
	}
	all := t.RowsShallow()
	rows := make([]T, 0, len(all))
	for _, r := range all {
		rows = append(rows, r.(T))
	}
	return rows
}

// probe asks whether the server still answers.
func (s *session) probe() error {
	call, cancel := context.WithTimeout(s.life, s.timeout)
	defer cancel()
	err := s.client.Echo(call)
	switch {
	case err == nil:
		return nil
	case errors.Is(call.Err(), context.DeadlineExceeded):
		return s.silence("echo")
	case errors.Is(err, client.ErrNotConnected):
		return errClosed
	}
	return fmt.Errorf("probe ovsdb-server: %w", err)
}

// transact runs one transaction, which must be small enough for the socket's
// buffer: a write that blocks on a hung server cannot be called off.
func (s *session) transact(ctx context.Context, ops []ovsdb.Operation) ([]ovsdb.OperationResult, error) {
	call, cancel := context.WithTimeout(s.life, s.timeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	results, err := s.client.Transact(call, ops...)
	switch {
	case err == nil:
		return results, checkResults(results, ops)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(call.Err(), context.DeadlineExceeded):
		err = s.silence("transact")
		s.fail(err)
		return nil, err
	case s.life.Err() != nil, errors.Is(err, client.ErrNotConnected), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, errClosed)
	}
	return nil, err
}

func (s *session) silence(method string) error {
	return fmt.Errorf("ovsdb-server does not answer: no reply to %s within %s", method, s.timeout)
}

// checkResults turns errors inside of results into one error.
func checkResults(results []ovsdb.OperationResult, ops []ovsdb.Operation) error {
	failed, err := ovsdb.CheckOperationResults(results, ops)
	if err == nil {
		return nil
	}
	all := []error{err}
	for _, e := range failed {
		all = append(all, e)
	}
	return errors.Join(all...)
}

// close ends the session and waits until libovsdb's goroutines are done with it.
func (s *session) close() {
	const patience = time.Second // for a notice that was sent before listen listened
	s.end()
	s.client.Close()
	select {
	case <-s.gone:
	case <-time.After(patience):
	}
	close(s.unheeded)
}
