// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// HoldKey is the key of Open_vSwitch.external_ids that holds the record of a
// hold. It lacks ReportPrefix, so that a report never removes it.
const HoldKey = "ipsec-offload-hold"

const (
	keyFlowLimit = "flow-limit" // of other_config, see ovs-vswitchd.conf.db(5)
	heldLimit    = "0"          // ovs-vswitchd keeps no flow in the datapath, and so none in hardware
	holdTries    = 10           // of a write that others came in between of
)

// Hold is the record of a hold: while it stands OVS offloads nothing, because
// other_config:flow-limit is 0, and traffic goes by the slow path. It stands in
// the database so that whoever comes after a crash can restore what stood before.
type Hold struct {
	// FlowLimit is what other_config:flow-limit was before; "" when it was unset.
	FlowLimit string `json:"flow-limit,omitempty"`
	// Fenced holds the devices, ifindex to name, whose hw-tc-offload was turned
	// off for the hold. They mean something in the boot of the record only.
	Fenced map[int]string `json:"fenced,omitempty"`
	Why    string         `json:"why"`
	Since  time.Time      `json:"since"`
	Boot   string         `json:"boot"` // id of the boot, random(4)

	// Broken says why the record in the database cannot be read; everything
	// else is empty then, so that flow-limit is restored to unset.
	Broken string `json:"-"`
}

// Hold records h and sets other_config:flow-limit to 0 in one transaction, so
// that a crash never leaves the 0 without the record. FlowLimit of h is not
// looked at: the record says what stands in the database. If a hold stands
// already, what it restores and since when it stands is kept, and the devices
// of h are added to those of its boot. A hold that is as it should be is not
// written again. ovs-vswitchd has taken it when Host.CurCfg is cfg or more.
func (w *Watch) Hold(ctx context.Context, h Hold) (cfg int64, err error) {
	cfg, err = w.turnKnobs(ctx, func(k knobs) (knobs, error) { return k.hold(h) })
	if err != nil {
		return 0, fmt.Errorf("hold offload: %w", err)
	}
	return cfg, nil
}

// Unhold restores other_config:flow-limit and removes the record, in one
// transaction. A limit other than 0 was written by the operator meanwhile and
// stays, and so does 0 where there is no record. ovs-vswitchd has taken it, also
// if it was restored before, when Host.CurCfg is cfg or more.
func (w *Watch) Unhold(ctx context.Context) (cfg int64, err error) {
	cfg, err = w.turnKnobs(ctx, func(k knobs) (knobs, error) { return k.unhold(), nil })
	if err != nil {
		return 0, fmt.Errorf("end hold of offload: %w", err)
	}
	return cfg, nil
}

// knobs are the two values that a hold consists of; "" when unset.
type knobs struct{ limit, record string }

func (k knobs) hold(h Hold) (knobs, error) {
	text, err := json.Marshal(h.Over(k.standing(), k.limit))
	return knobs{heldLimit, string(text)}, err
}

func (k knobs) unhold() knobs {
	return knobs{limit: k.standing().Restored(k.limit)}
}

func (k knobs) standing() *Hold {
	if k.record == "" {
		return nil
	}
	h := parseHold(k.record)
	return &h
}

// Over returns the record that a hold h makes where the hold old stands, if it
// is not nil, and other_config:flow-limit is limit. A limit other than 0 beside
// old was written by the operator meanwhile.
func (h Hold) Over(old *Hold, limit string) Hold {
	h.FlowLimit, h.Since, h.Broken = old.Restored(limit), h.Since.UTC().Truncate(time.Second), ""
	if old != nil && !old.Since.IsZero() {
		h.Since = old.Since
	}
	if old == nil || old.Boot != h.Boot {
		return h
	}
	fenced := make(map[int]string, len(old.Fenced)+len(h.Fenced))
	maps.Copy(fenced, old.Fenced)
	maps.Copy(fenced, h.Fenced)
	h.Fenced = fenced
	return h
}

// Restored returns what other_config:flow-limit has to be once h, if it is not
// nil, is over and the limit is now as given; "" is unset.
func (h *Hold) Restored(limit string) string {
	if h != nil && limit == heldLimit {
		return h.FlowLimit
	}
	return limit
}

// parseHold reads a record. It is total.
func parseHold(text string) Hold {
	var h Hold
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return Hold{Broken: fmt.Sprintf("read external_ids:%s: %v", HoldKey, err)}
	}
	return h
}

func holdOf(ids map[string]string) *Hold {
	text, is := ids[HoldKey]
	if !is {
		return nil
	}
	h := parseHold(text)
	return &h
}

// Equal tells whether two records, or nil for none, say the same.
func (h *Hold) Equal(o *Hold) bool {
	if h == nil || o == nil {
		return h == o
	}
	return h.FlowLimit == o.FlowLimit && maps.Equal(h.Fenced, o.Fenced) && h.Why == o.Why &&
		h.Since.Equal(o.Since) && h.Boot == o.Boot && h.Broken == o.Broken
}

// turnKnobs reads the knobs and writes what turn makes of them, provided that
// nobody wrote in between.
func (w *Watch) turnKnobs(ctx context.Context, turn func(knobs) (knobs, error)) (cfg int64, err error) {
	t, err := w.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer t.done()
	if t.now.Host.UUID == "" {
		return 0, errEmpty
	}
	for range holdTries {
		cfg, err = w.turnOnce(ctx, t, turn)
		if _, raced := errors.AsType[*ovsdb.TimedOut](err); !raced {
			break
		}
	}
	return cfg, err
}

func (w *Watch) turnOnce(ctx context.Context, t turn, turn func(knobs) (knobs, error)) (cfg int64, err error) {
	row, err := t.hostRow(ctx)
	if err != nil {
		return 0, err
	}
	now, err := knobsOf(row)
	if err != nil {
		return 0, err
	}
	next, err := turn(now)
	if err != nil {
		return 0, err
	}
	if next == now {
		cfg, err = nextOf(row)
		w.await(cfg)
		return cfg, err
	}
	_, cfg, err = w.configure(ctx, t, knobOperations(t.now.Host.UUID, row, now, next)...)
	return cfg, err
}

// hostRow reads what a hold bears on from the server, for the snapshot may lag.
func (t turn) hostRow(ctx context.Context) (ovsdb.Row, error) {
	results, err := t.session.transact(ctx, []ovsdb.Operation{{Op: ovsdb.OperationSelect, Table: tableHost,
		Where: rowIs(t.now.Host.UUID), Columns: []string{columnConfig, columnExternal, columnNext}}})
	if err != nil {
		return nil, err
	}
	if len(results[0].Rows) != 1 {
		return nil, errReplaced
	}
	return results[0].Rows[0], nil
}

func knobsOf(row ovsdb.Row) (knobs, error) {
	config, is := row[columnConfig].(ovsdb.OvsMap)
	ids, are := row[columnExternal].(ovsdb.OvsMap)
	if !is || !are {
		return knobs{}, fmt.Errorf("columns other_config and external_ids are %T and %T, not maps", row[columnConfig], row[columnExternal])
	}
	var k knobs
	k.limit, _ = config.GoMap[keyFlowLimit].(string)
	if text, is := ids.GoMap[HoldKey].(string); is {
		k.record = text
		if text == "" {
			k.record = " " // there, and broken
		}
	}
	return k, nil
}

// knobOperations makes next of now, if the row is still what was read: a wait
// without time to wait fails the whole transaction (RFC 7047, 5.2.6).
func knobOperations(host string, row ovsdb.Row, now, next knobs) []ovsdb.Operation {
	columns := []string{columnConfig, columnExternal}
	ops := []ovsdb.Operation{{Op: ovsdb.OperationWait, Table: tableHost, Where: rowIs(host), Timeout: new(0), Columns: columns,
		Until: string(ovsdb.WaitConditionEqual), Rows: []ovsdb.Row{{columnConfig: row[columnConfig], columnExternal: row[columnExternal]}}}}
	set := func(column, key, value string) {
		ops = append(ops, ovsdb.Operation{Op: ovsdb.OperationMutate, Table: tableHost, Where: rowIs(host), Mutations: setKey(column, key, value)})
	}
	if next.limit != now.limit {
		set(columnConfig, keyFlowLimit, next.limit)
	}
	if next.record != now.record {
		set(columnExternal, HoldKey, next.record)
	}
	return ops
}

// setKey returns the mutations that give a key of a map another value, or none.
func setKey(column, key, value string) []ovsdb.Mutation {
	ms := []ovsdb.Mutation{*ovsdb.NewMutation(column, ovsdb.MutateOperationDelete, ovsdb.OvsSet{GoSet: []any{key}})}
	if value == "" {
		return ms
	}
	return append(ms, *ovsdb.NewMutation(column, ovsdb.MutateOperationInsert, ovsdb.OvsMap{GoMap: map[any]any{key: value}}))
}
