// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/go-logr/logr"
)

const (
	// maxVerbosity is the highest V-level that libovsdb may log at. At V(4) it
	// logs whole operations and at V(5) whole rows, pre-shared keys included.
	maxVerbosity = 3
	// rowVerbosity is the V-level at which libovsdb's cache announces each row
	// of an update, under its lock and before it applies the row.
	rowVerbosity = 5
	// cacheName is the name that libovsdb's cache gives its logger.
	cacheName = "cache"
)

// errCacheBroken says that libovsdb could not apply an update. It then goes on
// with a cache that differs from the database and never mends it.
var errCacheBroken = errors.New("the copy of the database is inconsistent, reading it anew")

// logSink is what libovsdb logs to. It passes on messages but none of their
// values, and it hears two things that libovsdb tells only to its log: that an
// update is being applied, and that one failed.
type logSink struct {
	log   *slog.Logger
	cache bool           // logger of the cache
	rows  *atomic.Uint64 // grows with every row that the cache takes up
	fail  func(error)    // called when the cache is not to be trusted any more
}

// Init does nothing.
func (k logSink) Init(logr.RuntimeInfo) {}

// Enabled counts the rows that the cache takes up, by its asking for leave to
// log them, and never grants it.
func (k logSink) Enabled(level int) bool {
	if k.cache && level == rowVerbosity {
		k.rows.Add(1)
	}
	return level <= maxVerbosity && k.log.Enabled(context.Background(), slog.LevelDebug)
}

// Info logs the message. Values may come from rows and are left out.
func (k logSink) Info(level int, msg string, _ ...any) {
	if level <= maxVerbosity {
		k.log.Debug("libovsdb: " + msg)
	}
}

// Error logs the message and the error's type. Its text may quote a row.
func (k logSink) Error(err error, msg string, _ ...any) {
	k.log.Debug("libovsdb: "+msg, "error_type", fmt.Sprintf("%T", err))
	if k.cache {
		k.fail(errCacheBroken)
	}
}

// WithValues drops the values.
func (k logSink) WithValues(...any) logr.LogSink { return k }

// WithName remembers whether it is the cache that logs.
func (k logSink) WithName(name string) logr.LogSink {
	k.cache = name == cacheName
	return k
}
