// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// ErrNotConnected says that a write was not tried because there is no
// connection. The error that wraps it tells why.
var ErrNotConnected = errors.New("not connected to ovsdb-server")

// maxTransaction bounds the text in one transaction, in bytes. A unix socket
// takes several times as much without a reader (net.core.wmem_default, 208 KiB),
// so writing it never blocks on a hung server.
const maxTransaction = 32 << 10

// Report writes rs into the external_ids of their rows and nothing else. Few
// reports are one transaction; thousands are several. A row that went away in
// between is no error. The caller leaves out what stands there already.
func (w *Watch) Report(ctx context.Context, rs []Report) error {
	snapshot, s, done, err := w.write(ctx)
	if err != nil {
		return fmt.Errorf("report to database: %w", err)
	}
	defer done()
	for _, ops := range split(reportOperations(snapshot, rs), maxTransaction) {
		if _, err := s.transact(ctx, ops); err != nil {
			return fmt.Errorf("report to database: %w", err)
		}
	}
	return nil
}

// write waits for its turn to write. The caller calls done after it.
func (w *Watch) write(ctx context.Context) (_ Snapshot, _ *session, done func(), _ error) {
	select {
	case w.writer <- struct{}{}:
	case <-ctx.Done():
		return Snapshot{}, nil, nil, ctx.Err()
	}
	done = func() { <-w.writer }
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == nil {
		done()
		return Snapshot{}, nil, nil, fmt.Errorf("%w: %w", ErrNotConnected, w.state.Err)
	}
	return w.snapshot, w.session, done, nil
}

// reportOperations returns one operation for each report whose row is in the
// snapshot. A mutation to insert does not replace the value of a key that is
// there (RFC 7047, 5.1): each key is deleted first.
func reportOperations(now Snapshot, rs []Report) []ovsdb.Operation {
	var ops []ovsdb.Operation
	for _, r := range rs {
		where, there, found := rowOf(now, r.Tunnel)
		if !found {
			continue
		}
		keys := slices.Concat(slices.Collect(maps.Keys(there)), slices.Collect(maps.Keys(r.Values)))
		slices.Sort(keys)
		if keys = slices.Compact(keys); len(keys) == 0 {
			continue
		}
		table := tableInterface
		if r.Tunnel == "" {
			table = tableHost
		}
		ops = append(ops, ovsdb.Operation{
			Op: ovsdb.OperationMutate, Table: table, Where: []ovsdb.Condition{where},
			Mutations: externalIDs(keys, r.Values),
		})
	}
	return ops
}

// rowOf returns the condition that selects a row and our keys that stand in it.
// An Interface goes by its name, because its UUID may be new by now.
func rowOf(now Snapshot, tunnel string) (where ovsdb.Condition, there map[string]string, found bool) {
	if tunnel == "" {
		return hostIs(now.Host.UUID), now.Host.Reported, now.Host.UUID != ""
	}
	i, found := slices.BinarySearchFunc(now.Tunnels, tunnel, func(t Tunnel, name string) int {
		return strings.Compare(t.Name, name)
	})
	if !found {
		return ovsdb.Condition{}, nil, false
	}
	return ovsdb.NewCondition(columnName, ovsdb.ConditionEqual, tunnel), now.Tunnels[i].Reported, true
}

func hostIs(uuid string) ovsdb.Condition {
	return ovsdb.NewCondition(columnUUID, ovsdb.ConditionEqual, ovsdb.UUID{GoUUID: uuid})
}

// externalIDs returns the mutations that delete keys and set values.
func externalIDs(keys []string, values map[string]string) []ovsdb.Mutation {
	del := ovsdb.OvsSet{}
	for _, k := range keys {
		del.GoSet = append(del.GoSet, ReportPrefix+printable(k))
	}
	ms := []ovsdb.Mutation{*ovsdb.NewMutation(columnExternal, ovsdb.MutateOperationDelete, del)}
	if len(values) == 0 {
		return ms
	}
	set := ovsdb.OvsMap{GoMap: make(map[any]any, len(values))}
	for k, v := range values {
		set.GoMap[ReportPrefix+printable(k)] = printable(v)
	}
	return append(ms, *ovsdb.NewMutation(columnExternal, ovsdb.MutateOperationInsert, set))
}

// printable makes s fit for a string of OVSDB, which takes no NUL; the server
// would drop the connection.
func printable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// split cuts ops into transactions of at most limit bytes of text each, or of
// one operation.
func split(ops []ovsdb.Operation, limit int) [][]ovsdb.Operation {
	var all [][]ovsdb.Operation
	begin, size := 0, 0
	for i := range ops {
		n := textSize(ops[i])
		if i > begin && size+n > limit {
			all = append(all, ops[begin:i])
			begin, size = i, 0
		}
		size += n
	}
	if begin < len(ops) {
		all = append(all, ops[begin:])
	}
	return all
}

// textSize returns about how many bytes an operation takes on the wire.
func textSize(op ovsdb.Operation) int {
	b, err := op.MarshalJSON()
	if err != nil {
		return maxTransaction
	}
	return len(b)
}
