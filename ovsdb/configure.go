// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// errReplaced says that a write found another row than the snapshot has.
var errReplaced = errors.New("the row of table Open_vSwitch was replaced meanwhile; it will be tried again")

// errEmpty says that there is no row to write to.
var errEmpty = errors.New("table Open_vSwitch is empty; initialise it with ovs-vsctl init")

// configure carries out ops on the host's row and increments next_cfg in the
// same transaction, as ovs-vsctl(8) does. ovs-vswitchd has taken the change
// when cur_cfg is cfg or more.
func (w *Watch) configure(ctx context.Context, t turn, ops ...ovsdb.Operation) (results []ovsdb.OperationResult, cfg int64, err error) {
	where := rowIs(t.now.Host.UUID)
	all := append(ops,
		ovsdb.Operation{Op: ovsdb.OperationMutate, Table: tableHost, Where: where,
			Mutations: []ovsdb.Mutation{*ovsdb.NewMutation(columnNext, ovsdb.MutateOperationAdd, 1)}},
		ovsdb.Operation{Op: ovsdb.OperationSelect, Table: tableHost, Where: where, Columns: []string{columnNext}})
	if results, err = t.session.transact(ctx, all); err != nil {
		return nil, 0, err
	}
	rows := results[len(all)-1].Rows
	if len(rows) != 1 {
		return nil, 0, errReplaced
	}
	if cfg, err = nextOf(rows[0]); err != nil {
		return nil, 0, err
	}
	w.await(cfg)
	return results[:len(ops)], cfg, nil
}

// nextOf returns next_cfg of a row. JSON has one kind of number.
func nextOf(row ovsdb.Row) (int64, error) {
	n, ok := row[columnNext].(float64)
	if !ok {
		return 0, fmt.Errorf("column next_cfg is a %T, not a number", row[columnNext])
	}
	return int64(n), nil
}

// await makes the watch speak up when ovs-vswitchd has taken change cfg.
func (w *Watch) await(cfg int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaited = cfg
	if w.snapshot.Host.CurCfg >= cfg {
		w.announce() // it was faster than we are
	}
}

// reached tells whether now brings the change that somebody waits for. While a
// hold stands any may be: another process may have asked for it.
func (w *Watch) reached(now Snapshot) bool {
	was, is := w.snapshot.Host.CurCfg, now.Host.CurCfg
	return was < w.awaited && is >= w.awaited || now.Host.Hold != nil && was != is
}
