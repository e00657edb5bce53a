// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ovs-ipsec-offload/xfrm"
)

func rawKey(k xfrm.Key) []byte { return k.AppendTo(nil) }

func TestFileRoundTrip(t *testing.T) {
	a, b := testPair(t, 1)
	for _, want := range []Set{a, b} {
		got, err := Parse(want.Name, want.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Public(), got.Public(), noKeys); diff != "" {
			t.Errorf("set read back (-want +got):\n%s", diff)
		}
		if !bytes.Equal(rawKey(want.Out.Key), rawKey(got.Out.Key)) || !bytes.Equal(rawKey(want.In.Key), rawKey(got.In.Key)) {
			t.Error("keys read back are not those written")
		}
	}
	if diff := cmp.Diff(a.Out.KeyPrint, b.In.KeyPrint); diff != "" || a.Out.SPI != b.In.SPI {
		t.Errorf("the peers do not mirror each other: %s", diff)
	}
}

func TestParseWipesItsInput(t *testing.T) {
	for _, data := range [][]byte{testFile(t, 1), []byte(`{"version": 1, "junk`)} {
		_, _ = Parse("set1", data)
		if !bytes.Equal(data, make([]byte, len(data))) {
			t.Errorf("input left behind: %q", data)
		}
	}
}

func TestParseRefusals(t *testing.T) {
	key := func(file []byte, n int) string { return string(hexField(t, file, "key", n)) }
	tests := []struct {
		name string
		edit func(file string) string
		code string
	}{
		{"empty", func(string) string { return "" }, CodeFormat},
		{"cut off", func(s string) string { return s[:len(s)/2] }, CodeFormat},
		{"two objects", func(s string) string { return s + s }, CodeFormat},
		{"not an object", func(string) string { return "[]" }, CodeFormat},
		{"null", func(string) string { return "null" }, CodeFormat},
		{"other version", func(s string) string { return strings.Replace(s, `"version": 1`, `"version": 2`, 1) }, CodeFormat},
		{"no version", func(s string) string { return strings.Replace(s, `"version": 1,`, ``, 1) }, CodeFormat},
		{"unknown field", func(s string) string { return strings.Replace(s, `"version"`, `"note": "", "version"`, 1) }, CodeFormat},
		{"unknown field within", func(s string) string { return strings.Replace(s, `"spi"`, `"note": "", "spi"`, 1) }, CodeFormat},
		{"other case", func(s string) string { return strings.Replace(s, `"peer"`, `"Peer"`, 1) }, CodeFormat},
		{"key twice", func(s string) string { return strings.Replace(s, `"salt"`, `"key": "00", "salt"`, 1) }, CodeFormat},
		{"out twice", func(s string) string { return strings.Replace(s, `"in":`, `"out":`, 1) }, CodeFormat},
		{"no in", func(s string) string { return s[:strings.Index(s, ",\n  \"in\"")] + "}" }, CodeFormat},
		{"no created", func(s string) string { return strings.Replace(s, `"created": "2026-11-20T12:00:00Z",`, "", 1) }, CodeFormat},
		{"bad created", func(s string) string { return strings.Replace(s, "2026-11-20T12", "yesterday", 1) }, CodeFormat},
		{"name of another type", func(s string) string { return strings.Replace(s, `"set1"`, `1`, 1) }, CodeFormat},
		{"short key", func(s string) string { return strings.Replace(s, key([]byte(s), 0), key([]byte(s), 0)[2:], 1) }, CodeFormat},
		{"odd digits", func(s string) string { return strings.Replace(s, key([]byte(s), 0), key([]byte(s), 0)[1:], 1) }, CodeFormat},
		{"no hex", func(s string) string {
			return strings.Replace(s, key([]byte(s), 0), "x"+key([]byte(s), 0)[1:], 1)
		}, CodeFormat},
		{"key a number", func(s string) string { return strings.Replace(s, `"`+key([]byte(s), 0)+`"`, "17", 1) }, CodeFormat},
		{"long salt", func(s string) string { return strings.Replace(s, `"salt": "`, `"salt": "00`, 1) }, CodeFormat},
		{"spi a number", func(s string) string { return strings.Replace(s, `"spi": "0x`, `"spi": 1, "spi": "0x`, 1) }, CodeFormat},
		{"spi of 33 bits", func(s string) string { return strings.Replace(s, `"spi": "0x`, `"spi": "0x1`, 1) }, CodeFormat},
		{"reserved spi", func(s string) string {
			return strings.Replace(s, string(hexField(t, []byte(s), "spi", 0)), "0xff", 1)
		}, CodeWeak},
		{"same spi", func(s string) string {
			return strings.Replace(s, string(hexField(t, []byte(s), "spi", 0)), string(hexField(t, []byte(s), "spi", 1)), 1)
		}, CodeWeak},
		{"same key, other salt", func(s string) string { return strings.Replace(s, key([]byte(s), 0), key([]byte(s), 1), 1) }, CodeWeak},
		{"zero key", func(s string) string {
			return strings.Replace(s, key([]byte(s), 1), strings.Repeat("00", 32), 1)
		}, CodeWeak},
		{"name of another file", func(s string) string { return strings.Replace(s, `"set1"`, `"set2"`, 1) }, CodeName},
		{"bad name", func(s string) string { return strings.Replace(s, `"set1"`, `"../set1"`, 1) }, CodeName},
		{"bad host", func(s string) string { return strings.Replace(s, `"host": "hv1"`, `"host": "h v1"`, 1) }, CodeHost},
		{"host is peer", func(s string) string { return strings.Replace(s, `"host": "hv1"`, `"host": "hv2"`, 1) }, CodeHost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := string(testFile(t, 1))
			edited := tt.edit(file)
			if edited == file {
				t.Fatal("the edit changed nothing")
			}
			_, err := Parse("set1", []byte(edited))
			wantCode(t, err, tt.code)
			noSecret(t, err, []byte(file))
		})
	}
}

// noSecret fails when an error shows eight digits in a row of any key of file.
func noSecret(t testing.TB, err error, file []byte) {
	t.Helper()
	for n := range 2 {
		digits := string(hexField(t, file, "key", n))
		for i := 0; i+8 <= len(digits); i++ {
			if strings.Contains(err.Error(), digits[i:i+8]) {
				t.Fatalf("the error shows part of a key: %v", err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	a, b := testPair(f, 1)
	f.Add(a.AppendTo(nil))
	f.Add(b.AppendTo(nil))
	f.Add([]byte(`{"version":1,"name":"set1","out":{"key":"00","spi":"1"}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("set1", data)
		if err != nil {
			if e := err.(*Error); e.Code == "" || e.Text == "" {
				t.Fatalf("error without code or text: %#v", e)
			}
			return
		}
		again, err := Parse("set1", s.AppendTo(nil))
		if err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
		if diff := cmp.Diff(s.Public(), again.Public(), noKeys); diff != "" {
			t.Fatalf("read, written and read again (-first +second):\n%s", diff)
		}
	})
}
