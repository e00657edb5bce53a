// SPDX-License-Identifier: Apache-2.0

package fakehost

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// Keys is a store of one-shot key sets.
type Keys struct {
	// Far makes it the other end's store: what goes out by a set of the same name
	// and generation here comes in there.
	Far bool

	faults *fakenic.Faults
	mu     sync.Mutex
	sets   map[string]int // name to generation, less than 0 when its file is gone
}

func newKeys(f *fakenic.Faults) *Keys { return &Keys{faults: f, sets: map[string]int{}} }

// Make makes a key set, or a new one of the same name.
func (k *Keys) Make(name string) { k.set(name, func(n int) int { return abs(n) + 1 }) }

// Remove removes a key set's file. A set made later has other keys.
func (k *Keys) Remove(name string) { k.set(name, func(n int) int { return -abs(n) }) }

// Restore puts a removed key set's file back.
func (k *Keys) Restore(name string) { k.set(name, abs) }

func (k *Keys) set(name string, next func(int) int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sets[name] = next(k.sets[name])
}

// generation returns which key set of that name there is or was last.
func (k *Keys) generation(name string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sets[name]
}

func abs(n int) int { return max(n, -n) }

// Names returns the names of the key sets, sorted.
func (k *Keys) Names() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.sets))
}

// OutPrints returns the fingerprints of all outbound keys that ever were in the
// set of that name.
func (k *Keys) OutPrints(name string) (fs []xfrm.Fingerprint) {
	for gen := range abs(k.generation(name)) {
		fs = append(fs, xfrm.FingerprintOf(k.out(name, gen+1)[:xfrm.KeyLen]))
	}
	return fs
}

// Lookup implements plugin.Keys.
func (k *Keys) Lookup(name string) (plugin.KeySet, error) {
	gen := k.generation(name)
	if gen <= 0 {
		return plugin.KeySet{}, &plugin.Problem{Code: "KEY_MISSING", Text: "there is no key set " + name + " on this host"}
	}
	in, out := k.in(name, gen), k.out(name, gen)
	return plugin.KeySet{
		Name: name, InSPI: spiOf(in), OutSPI: spiOf(out),
		InPrint: xfrm.FingerprintOf(in[:xfrm.KeyLen]), OutPrint: xfrm.FingerprintOf(out[:xfrm.KeyLen]),
		Renew: "ovs-ipsec-offload keys new --pair hv1,hv2 --out DIR",
	}, nil
}

// Material implements plugin.Keys.
func (k *Keys) Material(name string) (in, out xfrm.Key, err error) {
	if err := k.faults.Ask("read keys " + name); err != nil {
		return in, out, err
	}
	gen := k.generation(name)
	if gen <= 0 {
		return in, out, &plugin.Problem{Code: "KEY_MISSING", Text: "there is no key set " + name + " on this host"}
	}
	in, _ = xfrm.NewKey(k.in(name, gen)[:xfrm.KeyLen])
	out, _ = xfrm.NewKey(k.out(name, gen)[:xfrm.KeyLen])
	return in, out, nil
}

func (k *Keys) in(name string, gen int) []byte {
	if k.Far {
		return raw(name, gen, "out")
	}
	return raw(name, gen, "in")
}

func (k *Keys) out(name string, gen int) []byte {
	if k.Far {
		return raw(name, gen, "in")
	}
	return raw(name, gen, "out")
}

// raw returns keying material and what an SPI is made of.
func raw(name string, gen int, half string) []byte {
	sum := sha512.Sum512(fmt.Appendf(nil, "%s\x00%d\x00%s", name, gen, half))
	return sum[:]
}

func spiOf(raw []byte) uint32 { return binary.BigEndian.Uint32(raw[xfrm.KeyLen:]) | 0x100 }
