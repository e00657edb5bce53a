// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
)

// secrets are values that no log, error, snapshot or report may show.
var secrets = []string{"hunter2-psk", "hunter2-raw", "hunter2-new", "hunter2-broken"}

// TestSecrets takes a watch with the most talkative log through all that it can
// meet, with keys in the database.
func TestSecrets(t *testing.T) {
	s := startServer(t)
	s.add(
		vxlan("vx1", "10.0.0.2", "psk", "hunter2-psk"),
		vxlan("vx2", "10.0.0.3", "ipsec_psk", "hunter2-raw", "ipsec_keys", "hunter2-raw/"))
	p := startProxy(t, "unix", filepath.Join(s.dir, "proxy"), s.sock)
	w := follow(t, p.listen.Addr().String())
	var seen strings.Builder
	look := func() {
		snap, st := w.Current()
		fmt.Fprintf(&seen, "%+v %+v %v\n", snap, st, st.Err)
	}
	w.tunnels("vx1", "vx2")
	look()
	s.options("vx1", map[string]string{"remote_ip": "10.0.0.9", "psk": "hunter2-new"})
	w.tunnel("vx1", "the change", func(t *Tunnel) bool { return t.Remote.String() == "10.0.0.9" })
	look()
	// libovsdb's error about this update quotes the column.
	p.update(obj{"Interface": obj{"12345678-1234-1234-1234-123456789abc": obj{"insert": obj{"name": "x", "type": "vxlan", "options": "hunter2-broken"}}}})
	w.until("the new connection", func(_ Snapshot, st State) bool { return p.connections() == 2 && st.Connected })
	look()
	err := w.Report(context.Background(), []Report{{Tunnel: "vx1", Values: map[string]string{"state": "blocked"}}})
	fmt.Fprintln(&seen, err)
	s.transact(replacement(nil)...)
	w.tunnels()
	s.kill()
	w.until("the loss", func(_ Snapshot, st State) bool { return !st.Connected })
	look()

	for what, text := range map[string]string{"log": w.log.String(), "rest": seen.String()} {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("the %s shows %s:\n%s", what, secret, text)
			}
		}
	}
	for _, must := range []string{"libovsdb: ", "inconsistent", "OPT_RAW_KEY"} {
		if !strings.Contains(w.log.String()+seen.String(), must) {
			t.Errorf("nothing about %q: this test has shown less than it should", must)
		}
	}
}

// TestSecretsControl shows that libovsdb would log the keys if it were let.
func TestSecretsControl(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2", "psk", "hunter2-psk"))
	log := &logBuffer{}
	logger := logr.FromSlogHandler(log.logger().Handler())
	db, err := model.NewClientDBModel(database, map[string]model.Model{tableInterface: &interfaceRow{}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewOVSDBClient(db, client.WithEndpoint("unix:"+s.sock), client.WithLogger(&logger))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	i := &interfaceRow{}
	if _, err := c.Monitor(context.Background(), c.NewMonitor(client.WithTable(i, &i.Name, &i.Options))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "hunter2-psk") {
		t.Error("libovsdb does not log rows any more: TestSecrets shows nothing")
	}
}
