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

// maxValue bounds one value, in bytes, so that one report keeps to it as well.
const maxValue = 4 << 10

// Report writes rs into the external_ids of their rows and nothing else. Few
// reports are one transaction; thousands are several. The caller leaves out what
// stands there already. A row that went away in between is no error, and one that
// was replaced shows up in the next snapshot with nothing reported. Values longer
// than 4 KiB are cut.
func (w *Watch) Report(ctx context.Context, rs []Report) error {
	t, err := w.begin(ctx)
	if err != nil {
		return fmt.Errorf("report to database: %w", err)
	}
	defer t.done()
	w.expect(rs)
	for _, ops := range split(reportOperations(t.now, t.ports, rs), maxTransaction) {
		if _, err := t.session.transact(ctx, ops); err != nil {
			return fmt.Errorf("report to database: %w", err)
		}
	}
	return nil
}

// written is what a Report wrote, by the tunnel's name, with "" for the host.
type written map[string]map[string]string

// expect notes what is about to be written. The server tells us of it like of
// anybody's change, and before it answers.
func (w *Watch) expect(rs []Report) {
	all := make(written, len(rs))
	for _, r := range rs {
		values := make(map[string]string, len(r.Values))
		for k, v := range r.Values {
			values[printable(k)] = printable(v)
		}
		all[r.Tunnel] = values
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written = all
}

// same tells whether a row reports what it did, or what was written.
func (w written) same(name string, was, is map[string]string) bool {
	if maps.Equal(was, is) {
		return true
	}
	ours, known := w[name]
	return known && maps.Equal(ours, is)
}

// turn is the right to write. Its holder calls done in the end.
type turn struct {
	session *session
	now     Snapshot
	ports   []*interfaceRow // of now, in the same order
	done    func()
}

// begin waits for the turn to write.
func (w *Watch) begin(ctx context.Context) (turn, error) {
	select {
	case w.writer <- struct{}{}:
	case <-ctx.Done():
		return turn{}, ctx.Err()
	}
	done := func() { <-w.writer }
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == nil {
		done()
		return turn{}, fmt.Errorf("%w: %w", ErrNotConnected, w.state.Err)
	}
	return turn{w.session, w.snapshot, w.ports, done}, nil
}

// reportOperations returns one operation for each report whose row is in the
// snapshot. A mutation to insert does not replace the value of a key that is
// there (RFC 7047, 5.1): each key is deleted first.
func reportOperations(now Snapshot, ports []*interfaceRow, rs []Report) []ovsdb.Operation {
	var ops []ovsdb.Operation
	for _, r := range rs {
		table, uuid, there := rowOf(now, ports, r.Tunnel)
		keys := slices.Concat(slices.Collect(maps.Keys(there)), slices.Collect(maps.Keys(r.Values)))
		if uuid == "" || len(keys) == 0 {
			continue
		}
		slices.Sort(keys)
		ops = append(ops, ovsdb.Operation{
			Op: ovsdb.OperationMutate, Table: table, Where: rowIs(uuid),
			Mutations: externalIDs(slices.Compact(keys), r.Values),
		})
	}
	return ops
}

// rowOf returns the table and the UUID of a row and our keys that stand in it.
func rowOf(now Snapshot, ports []*interfaceRow, tunnel string) (table, uuid string, there map[string]string) {
	if tunnel == "" {
		return tableHost, now.Host.UUID, now.Host.Reported
	}
	i, found := slices.BinarySearchFunc(ports, tunnel, func(r *interfaceRow, name string) int {
		return strings.Compare(r.Name, name)
	})
	if !found {
		return tableInterface, "", nil
	}
	return tableInterface, ports[i].UUID, now.Tunnels[i].Reported
}

// rowIs selects one row. The server finds a row by its UUID at once, and by
// anything else only by a look at every row.
func rowIs(uuid string) []ovsdb.Condition {
	return []ovsdb.Condition{ovsdb.NewCondition(columnUUID, ovsdb.ConditionEqual, ovsdb.UUID{GoUUID: uuid})}
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
	const replacement = "\uFFFD"
	if len(s) > maxValue {
		s = strings.ToValidUTF8(s[:maxValue], "") + "…"
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, replacement), "\x00", replacement)
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
