// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"ovs-ipsec-offload/xfrm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noKeys lets cmp compare sets whose keys are empty.
var noKeys = cmpopts.EquateComparable(xfrm.Key{})

var testTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// testPair makes a pair of key sets whose bytes depend on seed alone.
func testPair(t testing.TB, seed byte) (a, b Set) {
	t.Helper()
	a, b, err := NewPair(rand.NewChaCha8([32]byte{seed}), testTime, "set1", "hv1", "hv2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Wipe)
	return a, b
}

func testFile(t testing.TB, seed byte) []byte {
	a, _ := testPair(t, seed)
	return a.AppendTo(nil)
}

// wantCode fails unless err is an Error of this code, or nil for "".
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	got := ""
	if e, ok := errors.AsType[*Error](err); ok {
		got = e.Code
	}
	if got != code || (err == nil) != (code == "") {
		t.Fatalf("got error %v (code %q), want code %q", err, got, code)
	}
}

// hexField returns the digits of the n-th secret with this name in a file.
func hexField(t testing.TB, file []byte, name string, n int) []byte {
	t.Helper()
	mark := []byte(`"` + name + `": "`)
	for ; n >= 0; n-- {
		i := bytes.Index(file, mark)
		if i < 0 {
			t.Fatalf("no field %q", name)
		}
		file = file[i+len(mark):]
	}
	return file[:bytes.IndexByte(file, '"')]
}
