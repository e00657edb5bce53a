// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// hidden is what a Secret shows of itself.
const hidden = "(secret)"

// Secret is bytes that cannot print themselves: every formatting, logging and
// marshalling path gives "(secret)". The zero Secret is empty. The bytes are
// behind a function: fmt calls no method of what a struct does not export, and
// follows a pointer for some verbs.
type Secret struct{ reveal func() []byte }

// NewSecret takes over b: the caller does not use it any more.
func NewSecret(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	return Secret{reveal: func() []byte { return b }}
}

// Bytes returns the secret itself, which must not be written to.
func (s Secret) Bytes() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Empty tells whether there is nothing in it.
func (s Secret) Empty() bool { return len(s.Bytes()) == 0 }

// Equal compares in a time that depends on the lengths only.
func (s Secret) Equal(t Secret) bool {
	return subtle.ConstantTimeCompare(s.Bytes(), t.Bytes()) == 1
}

// String returns "(secret)". So do the other formatting methods.
func (s Secret) String() string { return hidden }

// GoString returns "(secret)".
func (s Secret) GoString() string { return hidden }

// Format writes "(secret)", whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue returns "(secret)".
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns "(secret)".
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON returns "(secret)".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
