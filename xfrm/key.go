// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
)

// KeyLen is the length in bytes of AES-256-GCM keying material as
// rfc4106(gcm(aes)) takes it: 32 of key and 4 of salt (RFC 4106, section 8.1).
const KeyLen = 36

// Key is secret keying material: key and salt in one. It cannot print itself:
// every formatting, logging and marshalling path gives "[key]".
// The zero Key is empty.
type Key struct{ b *[KeyLen]byte }

// NewKey takes over the first KeyLen bytes of b and wipes b. It returns the
// empty Key and false when b has another length.
func NewKey(b []byte) (Key, bool) {
	defer clear(b)
	if len(b) != KeyLen {
		return Key{}, false
	}
	k := Key{b: new([KeyLen]byte)}
	copy(k.b[:], b)
	return k, true
}

// Empty tells whether k holds no key, or one that was wiped.
func (k Key) Empty() bool { return k.b == nil || allZero(k.b[:]) }

// Wipe overwrites the key; every copy of k is empty of secrets after it.
func (k Key) Wipe() {
	if k.b != nil {
		clear(k.b[:])
	}
}

// AppendTo appends the raw key to b. The caller wipes b after use.
func (k Key) AppendTo(b []byte) []byte {
	if k.b == nil {
		return b
	}
	return append(b, k.b[:]...)
}

// Fingerprint returns the name under which the key may be spoken of.
func (k Key) Fingerprint() Fingerprint {
	if k.Empty() {
		return Fingerprint{}
	}
	return FingerprintOf(k.b[:])
}

// String returns "[key]". So do the other formatting methods.
func (k Key) String() string { return "[key]" }

// GoString returns "[key]".
func (k Key) GoString() string { return "[key]" }

// LogValue returns "[key]".
func (k Key) LogValue() slog.Value { return slog.StringValue("[key]") }

// MarshalText returns "[key]".
func (k Key) MarshalText() ([]byte, error) { return []byte("[key]"), nil }

// MarshalJSON returns "[key]".
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"[key]"`), nil }

// Fingerprint identifies keying material without giving it away: SHA-256 of
// 288 random bits cannot be reversed.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of raw keying material.
func FingerprintOf(raw []byte) Fingerprint { return sha256.Sum256(raw) }

// String returns the fingerprint in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }
