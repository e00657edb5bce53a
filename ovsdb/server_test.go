// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// limit is how long a test waits for something that has to happen.
const limit = 60 * time.Second

// server is a real ovsdb-server with a database of its own.
type server struct {
	tb   testing.TB
	dir  string
	sock string
	cmd  *exec.Cmd
}

// newServer prepares a server with an initialised, empty database.
func newServer(tb testing.TB) *server {
	tb.Helper()
	for _, f := range []string{"/usr/sbin/ovsdb-server", "/usr/bin/ovsdb-tool", schemaFile()} {
		if _, err := os.Stat(f); err != nil {
			tb.Fatalf("%s is missing: run make setup", f)
		}
	}
	// Not tb.TempDir: the path of a unix socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "ovsdb")
	if err != nil {
		tb.Fatal(err)
	}
	s := &server{tb: tb, dir: dir, sock: filepath.Join(dir, "db.sock")}
	tb.Cleanup(func() {
		s.kill()
		os.RemoveAll(dir)
	})
	s.create()
	return s
}

// schemaFile finds the schema where OVS itself would (ovs_pkgdatadir):
// `make setup` unpacks it without installing openvswitch-switch.
func schemaFile() string {
	return filepath.Join(cmp.Or(os.Getenv("OVS_PKGDATADIR"), "/usr/share/openvswitch"), "vswitch.ovsschema")
}

func startServer(tb testing.TB) *server {
	tb.Helper()
	s := newServer(tb)
	s.start()
	s.init()
	return s
}

// create makes an empty database in place of the one that was there.
func (s *server) create() {
	s.tb.Helper()
	db := filepath.Join(s.dir, "conf.db")
	os.Remove(db)
	if out, err := exec.Command("/usr/bin/ovsdb-tool", "create", db, schemaFile()).CombinedOutput(); err != nil {
		s.tb.Fatalf("create database: %v: %s", err, out)
	}
}

func (s *server) start() {
	s.tb.Helper()
	s.cmd = exec.Command("/usr/sbin/ovsdb-server", filepath.Join(s.dir, "conf.db"), "--remote=punix:"+s.sock,
		"--unixctl="+filepath.Join(s.dir, "ctl"), "-vconsole:off", "-vsyslog:off")
	s.cmd.Env = append(os.Environ(), "OVS_RUNDIR="+s.dir, "OVS_LOGDIR="+s.dir, "OVS_DBDIR="+s.dir)
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	poll(s.tb, "ovsdb-server to listen", func() bool {
		c, err := net.Dial("unix", s.sock)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill ends the server as a crash would: its socket file stays.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}

func (s *server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatal(err)
	}
}

// poll waits until done, for things that have no event.
func poll(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("waited %s for %s", limit, what)
		}
	}
}

// obj is a JSON object.
type obj = map[string]any

// transact runs operations by a client of its own and fails on any error.
func (s *server) transact(ops ...any) []obj {
	s.tb.Helper()
	results, err := transact(s.sock, ops)
	if err != nil {
		s.tb.Fatal(err)
	}
	return results
}

func transact(sock string, ops []any) ([]obj, error) {
	c, err := net.Dial("unix", sock)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	params := append([]any{"Open_vSwitch"}, ops...)
	if err := json.NewEncoder(c).Encode(obj{"method": "transact", "params": params, "id": 1}); err != nil {
		return nil, err
	}
	var reply struct {
		Result []obj
		Error  any
	}
	if err := json.NewDecoder(c).Decode(&reply); err != nil {
		return nil, err
	}
	if reply.Error != nil {
		return nil, fmt.Errorf("transact: %v", reply.Error)
	}
	for _, r := range reply.Result {
		if r["error"] != nil {
			return nil, fmt.Errorf("transact: %v", r)
		}
	}
	return reply.Result, nil
}

func mapOf(m map[string]string) []any {
	pairs := []any{}
	for k, v := range m {
		pairs = append(pairs, []string{k, v})
	}
	return []any{"map", pairs}
}

var all = []any{} // a where clause that every row meets

func named(name string) []any { return []any{[]any{"name", "==", name}} }

// init does what `ovs-vsctl init` and `add-br br-int` do.
func (s *server) init() {
	s.tb.Helper()
	s.transact(
		obj{"op": "insert", "table": "Bridge", "uuid-name": "br", "row": obj{"name": "br-int"}},
		obj{"op": "insert", "table": "Open_vSwitch", "row": obj{
			"bridges":      []any{"named-uuid", "br"},
			"ovs_version":  "3.1.0",
			"external_ids": mapOf(map[string]string{"system-id": "hv1", "hostname": "hv1.example"}),
		}},
	)
}

// port is a port with one interface.
type port struct {
	name, kind string
	options    map[string]string
	ids        map[string]string
}

func vxlan(name, remote string, more ...string) port {
	p := port{name: name, kind: "vxlan", options: map[string]string{"remote_ip": remote, "local_ip": "10.0.0.1", "key": "flow"}}
	for i := 0; i < len(more); i += 2 {
		p.options[more[i]] = more[i+1]
	}
	return p
}

// tunnels returns n vxlan ports with IPsec.
func tunnels(n int) []port {
	ps := make([]port, n)
	for i := range ps {
		ps[i] = vxlan(fmt.Sprintf("ovn-%06d-0", i), fmt.Sprintf("10.%d.%d.2", 1+i/250, i%250), "ipsec_keys", fmt.Sprintf("hv1-hv%d-deadbeef", i))
		ps[i].ids = map[string]string{"ovn-chassis-id": fmt.Sprintf("hv%d@10.0.0.%d", i, i%250)}
	}
	return ps
}

func inserts(ps []port) (ops []any, uuids []any) {
	uuids = []any{}
	for i, p := range ps {
		iface, port := fmt.Sprintf("i%d", i), fmt.Sprintf("p%d", i)
		ops = append(ops,
			obj{"op": "insert", "table": "Interface", "uuid-name": iface, "row": obj{
				"name": p.name, "type": p.kind, "options": mapOf(p.options), "external_ids": mapOf(p.ids)}},
			obj{"op": "insert", "table": "Port", "uuid-name": port, "row": obj{"name": p.name, "interfaces": []any{"named-uuid", iface}}})
		uuids = append(uuids, []any{"named-uuid", port})
	}
	return ops, uuids
}

// add adds ports in one transaction.
func (s *server) add(ps ...port) {
	s.tb.Helper()
	ops, uuids := inserts(ps)
	s.transact(append(ops, obj{"op": "mutate", "table": "Bridge", "where": all,
		"mutations": []any{[]any{"ports", "insert", []any{"set", uuids}}}})...)
}

// replacement returns the operations that put ps in place of all ports there
// are. Rows that nothing refers to any more go in the same transaction.
func replacement(ps []port) []any {
	ops, uuids := inserts(ps)
	return append(ops, obj{"op": "update", "table": "Bridge", "where": all, "row": obj{"ports": []any{"set", uuids}}})
}

// options replaces the options of an interface.
func (s *server) options(name string, options map[string]string) {
	s.tb.Helper()
	s.transact(obj{"op": "update", "table": "Interface", "where": named(name), "row": obj{"options": mapOf(options)}})
}

// column returns a map column of the rows that match, merged.
func (s *server) column(table string, where []any, column string) map[string]string {
	s.tb.Helper()
	m := map[string]string{}
	for _, row := range s.transact(obj{"op": "select", "table": table, "where": where, "columns": []string{column}})[0]["rows"].([]any) {
		for _, pair := range row.(obj)[column].([]any)[1].([]any) {
			m[pair.([]any)[0].(string)] = pair.([]any)[1].(string)
		}
	}
	return m
}

// number returns a number of the host's row.
func (s *server) number(column string) int64 {
	s.tb.Helper()
	rows := s.transact(obj{"op": "select", "table": "Open_vSwitch", "where": all, "columns": []string{column}})[0]["rows"].([]any)
	return int64(rows[0].(obj)[column].(float64))
}

// taken is what ovs-vswitchd does when it has taken all changes so far.
func (s *server) taken() {
	s.tb.Helper()
	s.transact(obj{"op": "update", "table": "Open_vSwitch", "where": all, "row": obj{"cur_cfg": s.number("next_cfg")}})
}

// uuid returns the UUID of the one row that matches.
func (s *server) uuid(table string, where []any) any {
	s.tb.Helper()
	rows := s.transact(obj{"op": "select", "table": table, "where": where, "columns": []string{"_uuid"}})[0]["rows"].([]any)
	if len(rows) != 1 {
		s.tb.Fatalf("%d rows in %s for %v, want one", len(rows), table, where)
	}
	return rows[0].(obj)["_uuid"]
}

func names(s Snapshot) []string {
	ns := make([]string, 0, len(s.Tunnels))
	for _, t := range s.Tunnels {
		ns = append(ns, t.Name)
	}
	return ns
}

func (s Snapshot) tunnel(name string) *Tunnel {
	i := slices.Index(names(s), name)
	if i < 0 {
		return nil
	}
	return &s.Tunnels[i]
}
