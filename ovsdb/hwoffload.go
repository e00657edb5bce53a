// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"errors"
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
func (w *Watch) SetHWOffload(ctx context.Context, value string) error {
	t, err := w.begin(ctx)
	if err != nil {
		return fmt.Errorf("set hw-offload: %w", err)
	}
	defer t.done()
	if t.now.Host.UUID == "" {
		return errors.New("set hw-offload: table Open_vSwitch is empty; initialise it with ovs-vsctl init")
	}
	results, err := t.session.transact(ctx, hwOffloadOperations(t.now.Host.UUID, value))
	if err != nil {
		return fmt.Errorf("set hw-offload: %w", err)
	}
	if err := hwOffloadOutcome(results[0].Rows, value); err != nil {
		return fmt.Errorf("set hw-offload: %w", err)
	}
	return nil
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
		return errors.New("the row of table Open_vSwitch was replaced meanwhile; it will be tried again")
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
