// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"fmt"

	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// HWOffloadError says that somebody else set other_config:hw-offload first.
// Their value stays.
type HWOffloadError struct {
	Value string // that stands in the database
}

// Error tells what stands there and how to give the key back.
func (e *HWOffloadError) Error() string {
	return fmt.Sprintf("other_config:hw-offload is already %s and stays so; "+
		"to leave it to this daemon: ovs-vsctl remove Open_vSwitch . other_config hw-offload", quote(e.Value))
}

// SetHWOffload sets other_config:hw-offload to value if it is unset. When it
// has another value by then, that one stays and the error is a *HWOffloadError.
// ovs-vswitchd has taken the value when Host.CurCfg is cfg or more.
func (w *Watch) SetHWOffload(ctx context.Context, value string) (cfg int64, err error) {
	cfg, err = w.setHWOffload(ctx, value)
	if err != nil {
		return 0, fmt.Errorf("set hw-offload: %w", err)
	}
	return cfg, nil
}

func (w *Watch) setHWOffload(ctx context.Context, value string) (cfg int64, err error) {
	t, err := w.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer t.done()
	if t.now.Host.UUID == "" {
		return 0, errEmpty
	}
	results, cfg, err := w.configure(ctx, t, hwOffloadOperations(t.now.Host.UUID, value)...)
	if err != nil {
		return 0, err
	}
	return cfg, hwOffloadOutcome(results[0].Rows, value)
}

// hwOffloadOperations reads the value and sets it, in one transaction. To insert
// a key that is there changes nothing (RFC 7047, 5.1), so whoever comes first wins.
func hwOffloadOperations(host, value string) []ovsdb.Operation {
	where := rowIs(host)
	set := ovsdb.OvsMap{GoMap: map[any]any{keyHWOffload: value}}
	return []ovsdb.Operation{
		{Op: ovsdb.OperationSelect, Table: tableHost, Where: where, Columns: []string{columnConfig}},
		{Op: ovsdb.OperationMutate, Table: tableHost, Where: where,
			Mutations: []ovsdb.Mutation{*ovsdb.NewMutation(columnConfig, ovsdb.MutateOperationInsert, set)}},
	}
}

// hwOffloadOutcome tells from what stood there before what came of it.
func hwOffloadOutcome(before []ovsdb.Row, value string) error {
	if len(before) != 1 {
		return errReplaced
	}
	config, ok := before[0][columnConfig].(ovsdb.OvsMap)
	if !ok {
		return fmt.Errorf("column other_config is a %T, not a map", before[0][columnConfig])
	}
	if v, set := config.GoMap[keyHWOffload]; set && v != value {
		return &HWOffloadError{Value: fmt.Sprint(v)}
	}
	return nil
}
