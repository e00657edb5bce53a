// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"ovs-ipsec-offload/xfrm"
)

// NewPair makes the key sets of the hosts a and b; name may be empty for one
// that is made up. The caller wipes both sets.
//
// SPIs are random and not counted up: the kernel hashes states by SPI and
// address, and sequential figures on both sides fall into one bucket.
func NewPair(rand io.Reader, now time.Time, name, a, b string) (forA, forB Set, err error) {
	if name == "" {
		if name, err = madeUpName(rand, a, b); err != nil {
			return Set{}, Set{}, err
		}
	}
	there, err := newHalf(rand)
	if err != nil {
		return Set{}, Set{}, err
	}
	back, err := newHalf(rand)
	if err != nil {
		there.Key.Wipe()
		return Set{}, Set{}, err
	}
	created := now.UTC().Truncate(time.Second)
	forA = Set{Name: name, Host: a, Peer: b, Created: created, Out: there, In: back}
	forB = Set{Name: name, Host: b, Peer: a, Created: created, Out: back, In: there}
	if err := forA.check("make"); err != nil {
		forA.Wipe()
		return Set{}, Set{}, err
	}
	return forA, forB, nil
}

func madeUpName(rand io.Reader, a, b string) (string, error) {
	var tail [4]byte
	if _, err := io.ReadFull(rand, tail[:]); err != nil {
		return "", fmt.Errorf("make key set: read random bytes: %w", err)
	}
	return a + "-" + b + "-" + hex.EncodeToString(tail[:]), nil
}

func newHalf(rand io.Reader) (Half, error) {
	raw := make([]byte, xfrm.KeyLen)
	if _, err := io.ReadFull(rand, raw); err != nil {
		return Half{}, fmt.Errorf("make key set: read random bytes: %w", err)
	}
	key, _ := xfrm.NewKey(raw) // wipes raw
	var n [4]byte
	if _, err := io.ReadFull(rand, n[:]); err != nil {
		key.Wipe()
		return Half{}, fmt.Errorf("make key set: read random bytes: %w", err)
	}
	return Half{SPI: binary.BigEndian.Uint32(n[:]) | MinSPI, Key: key, KeyPrint: key.Fingerprint()}, nil
}
