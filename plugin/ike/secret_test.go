// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretDoesNotPrintItself(t *testing.T) {
	const plain = "swordfish-in-plain"
	s := NewSecret([]byte(plain))
	conn := Conn{Name: "oio-1", Auth: Auth{PSK: s, Key: s}}
	unexported := struct {
		c *Conn
		a Auth
	}{&conn, conn.Auth}
	var out bytes.Buffer
	for _, v := range []any{s, &s, conn, &conn, conn.Auth, unexported, []Secret{s}, map[string]Conn{"a": conn}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		slog.New(slog.NewTextHandler(&out, nil)).Error("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Error("x", "v", v)
	}
	for _, form := range []string{plain, fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), "115 119 111", "0x73, 0x77"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("shown as %q", form)
		}
	}
}

func TestSecretEqual(t *testing.T) {
	a, b, c := NewSecret([]byte("a")), NewSecret([]byte("a")), NewSecret([]byte("ab"))
	if !a.Equal(b) || a.Equal(c) || a.Equal(Secret{}) || !(Secret{}).Equal(NewSecret(nil)) {
		t.Error("Equal does not compare contents")
	}
	if a.Empty() || !(Secret{}).Empty() {
		t.Error("Empty is wrong")
	}
}
