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
	w.keep(t, rs)
	for _, ops := range split(reportOperations(t.now, t.ports, rs), maxTransaction) {
		if _, err := t.session.transact(ctx, ops); err != nil {
			w.keep(t, t.asBefore(rs))
			return fmt.Errorf("report to database: %w", err)
		}
	}
	return nil
}

// asBefore returns what stood in the rows of rs when t began.
func (t turn) asBefore(rs []Report) []Report {
	before := make([]Report, len(rs))
	for i, r := range rs {
		_, _, there := rowOf(t.now, t.ports, r.Tunnel)
		before[i] = Report{r.Tunnel, there}
	}
	return before
}

// keep has the snapshot say what is reported, as the server will tell us too, so that
// Current never lags behind a Report, and its echo is no news. A row that was read anew
// since t began is left as it was read.
func (w *Watch) keep(t turn, rs []Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.snapshot
	now.Tunnels = slices.Clone(now.Tunnels) // others have the old ones
	for _, r := range rs {
		if r.Tunnel == "" {
			if w.host == t.host && w.host != nil {
				now.Host.Reported = written(r.Values)
			}
			continue
		}
		was, known := find(t.ports, r.Tunnel)
		at, is := find(w.ports, r.Tunnel)
		if known && is && w.ports[at] == t.ports[was] {
			now.Tunnels[at].Reported = written(r.Values)
		}
	}
	w.snapshot = now
}

// withReports returns a snapshot that was read in which rows report what the last one
// says, unless they were read anew: a change of a row makes another one of it, so what
// was reported is still on its way.
func (w *Watch) withReports(now Snapshot, host *hostRow, ports []*interfaceRow) Snapshot {
	if host != nil && host == w.host {
		now.Host.Reported = w.snapshot.Host.Reported
	}
	now.Tunnels = slices.Clone(now.Tunnels) // parsed has the others
	for i, r := range ports {
		at, is := i, i < len(w.ports) && w.ports[i] == r
		if !is {
			at, is = find(w.ports, r.Name)
		}
		if is && w.ports[at] == r {
			now.Tunnels[i].Reported = w.snapshot.Tunnels[at].Reported
		}
	}
	return now
}

// written returns values as they will be read.
func written(values map[string]string) map[string]string {
	if len(values) == 0 {
		return nil
	}
	m := make(map[string]string, len(values))
	for k, v := range values {
		m[printable(k)] = printable(v)
	}
	return m
}

// find returns the place of a port.
func find(ports []*interfaceRow, name string) (at int, found bool) {
	return slices.BinarySearchFunc(ports, name, func(r *interfaceRow, name string) int { return strings.Compare(r.Name, name) })
}

// turn is the right to write. Its holder calls done in the end.
type turn struct {
	session *session
	now     Snapshot
	host    *hostRow        // of now
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
	return turn{w.session, w.snapshot, w.host, w.ports, done}, nil
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
	i, found := find(ports, tunnel)
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
