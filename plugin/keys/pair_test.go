// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestNewPairProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed"))
		a, b, err := NewPair(rand.NewChaCha8(seed), testTime, "", "hv1", "hv2")
		if err != nil {
			t.Fatal(err)
		}
		if a.Out != b.In || a.In != b.Out || a.Host != b.Peer || a.Peer != b.Host || a.Name != b.Name {
			t.Fatalf("the sets do not mirror each other: %v %v", a, b)
		}
		if !regexp.MustCompile(`^hv1-hv2-[0-9a-f]{8}$`).MatchString(a.Name) {
			t.Fatalf("name %q", a.Name)
		}
		for _, s := range []Set{a, b} {
			got, err := Parse(s.Name, s.AppendTo(nil))
			if err != nil {
				t.Fatal(err)
			}
			got.Wipe()
		}
	})
}

func TestNewPairRefusals(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, tt := range []struct{ name, a, b, code string }{
		{"", "hv1", "hv1", CodeHost},
		{"x", "hv1", "hv 2", CodeHost},
		{"x", "", "hv2", CodeHost},
		{"x/y", "hv1", "hv2", CodeName},
		{"", strings.Repeat("a", 120), strings.Repeat("b", 20), CodeName},
	} {
		_, _, err := NewPair(random, testTime, tt.name, tt.a, tt.b)
		wantCode(t, err, tt.code)
	}
	// A generator that repeats itself must not give the same key twice.
	_, _, err := NewPair(bytes.NewReader(bytes.Repeat([]byte{7}, 80)), testTime, "x", "hv1", "hv2")
	wantCode(t, err, CodeWeak)
}

func TestNewPairNeedsRandomness(t *testing.T) {
	broken := errors.New("no entropy")
	for n := range 4 + 2*(36+4) {
		short := iotest.DataErrReader(bytes.NewReader(make([]byte, n)))
		_, _, err := NewPair(readThen(short, broken), testTime, "", "hv1", "hv2")
		if !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

func TestCheckHost(t *testing.T) {
	a, _ := testPair(t, 1)
	for _, tt := range []struct {
		own  []string
		code string
	}{
		{[]string{"hv1", "host1.example"}, ""},
		{[]string{"hv2"}, CodeHost},
		{[]string{"hv2", "hv1"}, ""},
		{[]string{"6a7c", "other"}, ""},
		{nil, ""},
	} {
		wantCode(t, a.CheckHost(tt.own...), tt.code)
	}
}

func readThen(r interface{ Read([]byte) (int, error) }, err error) readerFunc {
	return func(p []byte) (int, error) {
		n, _ := r.Read(p)
		if n == 0 {
			return 0, err
		}
		return n, nil
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
