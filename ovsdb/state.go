// SPDX-License-Identifier: Apache-2.0

package ovsdb

import "time"

// State tells how far a Snapshot can be trusted.
type State struct {
	// Connected tells that the snapshot follows the database. When it is false
	// the snapshot is the last one that was read: it may be out of date.
	Connected bool
	// Known tells that the database was read at least once. When it is false
	// the snapshot is empty because nothing is known, not because nothing is
	// configured.
	Known bool
	// Since is when Connected took its present value.
	Since time.Time
	// Err says why there is no connection; nil while Connected.
	Err error
}
