// SPDX-License-Identifier: Apache-2.0

package fakehost

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// Ledger is a ledger of outbound keys that outlives the daemon.
type Ledger struct {
	faults *fakenic.Faults
	mu     sync.Mutex
	used   map[xfrm.Fingerprint]bool
}

func newLedger(f *fakenic.Faults) *Ledger {
	return &Ledger{faults: f, used: map[xfrm.Fingerprint]bool{}}
}

// Used implements plugin.Ledger.
func (l *Ledger) Used(f xfrm.Fingerprint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used[f]
}

// Reserve implements plugin.Ledger. A fault on "reserve NAME,NAME…" is a write
// or an fsync that failed: nothing counts as written.
func (l *Ledger) Reserve(ctx context.Context, es []plugin.LedgerEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.faults.Run("reserve "+names(es), func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, e := range es {
			if l.used[e.Print] {
				return &plugin.Problem{Code: "KEY_USED", Text: "the outbound key of " + e.Name + " was installed before"}
			}
		}
		for _, e := range es {
			l.used[e.Print] = true
		}
		return nil
	})
}

// Refused implements plugin.Ledger.
func (l *Ledger) Refused(ctx context.Context, es []plugin.LedgerEntry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.faults.Run("give back "+names(es), func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, e := range es {
			if !l.used[e.Print] {
				return fmt.Errorf("release key set %s: %w: it was not reserved", e.Name, unix.EINVAL)
			}
			delete(l.used, e.Print)
		}
		return nil
	})
}

func names(es []plugin.LedgerEntry) string {
	ns := make([]string, len(es))
	for i, e := range es {
		ns[i] = e.Name
	}
	slices.Sort(ns)
	return strings.Join(ns, ",")
}
