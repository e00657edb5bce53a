// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// hidden is what a Secret shows of itself.
const hidden = "(secret)"

// Secret is a value of the database that cannot print itself: every formatting,
// logging and marshalling path gives "(secret)". The zero Secret is empty. The
// value is behind a function, which neither fmt nor a differ looks into, also
// where the Secret stands in a field that is not exported.
type Secret struct{ reveal func() string }

// NewSecret returns a Secret of v.
func NewSecret(v string) Secret {
	if v == "" {
		return Secret{}
	}
	return Secret{reveal: func() string { return v }}
}

// Empty tells whether there is nothing in it.
func (s Secret) Empty() bool { return s.reveal == nil }

// Bytes returns a copy of the value, which the caller wipes after use.
func (s Secret) Bytes() []byte {
	if s.reveal == nil {
		return nil
	}
	return []byte(s.reveal())
}

// Equal compares the values, in a time that depends on their lengths only.
func (s Secret) Equal(o Secret) bool {
	a, b := s.Bytes(), o.Bytes()
	defer clear(a)
	defer clear(b)
	return subtle.ConstantTimeCompare(a, b) == 1
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
