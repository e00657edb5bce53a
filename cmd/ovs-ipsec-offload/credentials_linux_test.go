// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"ovs-ipsec-offload/ovsdb"
)

// Refusals and notes keep their codes on their way into the core.
func TestCredentialsAreCoded(t *testing.T) {
	dir := t.TempDir()
	good, missing := filepath.Join(dir, "good"), filepath.Join(dir, "missing")
	if err := os.WriteFile(good, []byte("swordfish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := func(name string, auth ovsdb.Auth) ovsdb.Tunnel {
		auth.Method = ovsdb.MethodPSK
		return ovsdb.Tunnel{Name: name, IPsec: true, Auth: auth}
	}
	auths, notes := newCredentials(func() {}).Auths(&ovsdb.Snapshot{Tunnels: []ovsdb.Tunnel{
		port("file", ovsdb.Auth{PSKFile: good}), port("none", ovsdb.Auth{PSKFile: missing}), port("row", ovsdb.Auth{PSK: ovsdb.NewSecret("swordfish")}),
	}})
	if a := auths["file"]; a.Problem != nil || len(a.Notes) > 0 || string(a.Auth.PSK.Bytes()) != "swordfish" {
		t.Errorf("a good file: %+v", a)
	}
	if a := auths["none"]; a.Problem == nil || a.Problem.Code != "CERT_MISSING" || !a.Auth.PSK.Empty() {
		t.Errorf("a file that is missing: %+v", a)
	}
	if a := auths["row"]; a.Problem != nil || len(a.Notes) != 1 || a.Notes[0].Code != "PSK_IN_OVSDB" {
		t.Errorf("a secret in the database: %+v", a)
	}
	if len(notes) > 0 {
		t.Errorf("notes on the host: %v", notes)
	}
}
