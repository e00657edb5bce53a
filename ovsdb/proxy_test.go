// SPDX-License-Identifier: Apache-2.0

package ovsdb

import (
	"encoding/json"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// proxy stands between a client and a server and can put in a message of its own.
type proxy struct {
	tb     testing.TB
	server string // socket of the real server
	listen net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	client net.Conn        // of the newest connection
	cookie json.RawMessage // of its monitor
	count  int             // of connections
}

func startProxy(tb testing.TB, network, address, server string) *proxy {
	tb.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{tb: tb, server: server, listen: l}
	p.wg.Go(p.accept)
	tb.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.server)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.client, p.cookie = client, nil
		p.count++
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(server, client) })
		p.wg.Go(func() { p.copy(client, server) })
	}
}

// copy passes whole messages on, and remembers the cookie of a monitor.
func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	in := json.NewDecoder(from)
	for {
		var m json.RawMessage
		if in.Decode(&m) != nil {
			return
		}
		var request struct {
			Method string
			Params []json.RawMessage
		}
		_ = json.Unmarshal(m, &request)
		p.mu.Lock()
		if request.Method == "monitor_cond_since" {
			p.cookie = request.Params[1]
		}
		_, err := to.Write(m)
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// update sends the newest client an update that the server never made.
func (p *proxy) update(tables obj) {
	p.tb.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := json.Marshal(obj{"method": "update3", "id": nil, "params": []any{p.cookie, "00000000-0000-0000-0000-000000000001", tables}})
	if err != nil {
		p.tb.Fatal(err)
	}
	if _, err := p.client.Write(m); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// TestInconsistentCache: libovsdb only logs an update that it cannot apply, and
// leaves out the rest of it. The watch has to read everything anew.
func TestInconsistentCache(t *testing.T) {
	const nowhere = "12345678-1234-1234-1234-123456789abc"
	for name, row := range map[string]obj{
		"change of an unknown row":  {"modify": obj{"options": mapOf(map[string]string{"psk": "x"})}},
		"removal of an unknown row": {"delete": nil},
		"column of a wrong type":    {"insert": obj{"name": "vx9", "type": "vxlan", "options": "hunter2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			s.add(vxlan("vx1", "10.0.0.2"))
			p := startProxy(t, "unix", filepath.Join(s.dir, "proxy"), s.sock)
			w := follow(t, p.listen.Addr().String())
			w.tunnels("vx1")
			p.update(obj{"Interface": obj{nowhere: row}})
			w.until("a second connection", func(_ Snapshot, st State) bool { return p.connections() == 2 && st.Connected })
			s.add(vxlan("vx2", "10.0.0.3"))
			w.tunnels("vx1", "vx2")
		})
	}
}

func TestTCP(t *testing.T) {
	s := startServer(t)
	s.add(vxlan("vx1", "10.0.0.2"))
	p := startProxy(t, "tcp", "127.0.0.1:0", s.sock)
	w := follow(t, "", func(c *Config) { c.Endpoint = "tcp:" + p.listen.Addr().String() })
	w.tunnels("vx1")
}
