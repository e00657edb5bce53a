// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"sync"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin/ike"
)

// Result is what is known of a port's credentials.
type Result struct {
	Auth    ike.Auth
	Notes   []Problem // weaknesses, and what will be wrong soon
	Problem *Problem  // why there are none
}

// Keeper has the credentials of all ports of a host: it reads the files that they
// name, remembers what could be used last, and tells when a file changed. Its
// methods may be called from any goroutine.
type Keeper struct {
	now     func() time.Time
	watcher *Watcher

	mu     sync.Mutex
	store  *Store
	memory Memory
}

// NewKeeper returns a Keeper that reads by way of store. It calls changed when
// Auths may have something new to say.
func NewKeeper(store *Store, now func() time.Time, changed func()) *Keeper {
	return &Keeper{store: store, now: now, watcher: NewWatcher(func([]string) { changed() })}
}

// Run watches the files until ctx ends, and returns an error when it cannot any
// more. Auths looks at the files itself, so without it nothing is lost but time.
func (k *Keeper) Run(ctx context.Context) error { return k.watcher.Run(ctx) }

// Auths returns the credentials of every port that asks for IKE and has no other
// fault, by its name, and what is to be said about the host's own files.
func (k *Keeper) Auths(snap *ovsdb.Snapshot) (map[string]Result, []Problem) {
	k.mu.Lock()
	defer k.mu.Unlock()
	refs, now := AllRefs(snap.Tunnels, snap.Host.PKI), k.now()
	k.watcher.Set(Paths(refs))
	files := k.store.Read(refs)
	results, names := map[string]Result{}, map[string]bool{}
	for i := range snap.Tunnels {
		t := &snap.Tunnels[i]
		names[t.Name] = t.Auth.Method != "" // also while another option is wrong
		if t.Auth.Method != "" && len(t.Problems) == 0 {
			results[t.Name] = k.result(t, snap.Host.PKI, files, now)
		}
	}
	k.store.Keep(refs)
	k.memory.Keep(names)
	return results, HostNotes(snap.Host.PKI, files, now)
}

func (k *Keeper) result(t *ovsdb.Tunnel, host ovsdb.PKI, files Files, now time.Time) Result {
	got, refused := Credentials(t.Auth, host, files, now)
	use, former, still := k.memory.Settle(t.Name, t.Auth, got, refused)
	if still != nil {
		return Result{Problem: still}
	}
	r := Result{Auth: use, Notes: PortNotes(t.Auth, files, now)}
	if former != nil {
		r.Notes = append(r.Notes, *former)
	}
	return r
}
