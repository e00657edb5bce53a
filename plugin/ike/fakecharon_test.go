// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// fakeCharon is an IKE daemon as it shows itself over VICI. The tests play its
// peers.
type fakeCharon struct {
	Version string
	Refuse  func(command string, m vici.Message) string // the reason, "" for none
	Mute    map[string]bool                             // commands that get no answer
	Hold    bool                                        // IKE SAs stay CONNECTING

	mu       sync.Mutex
	conns    map[string]vici.Message
	shared   map[string]string
	keys     map[string]bool // by id
	sas      []*sa
	serial   uint32
	commands []string
	lists    int // how often it listed IKE SAs
	audits   int // how often it listed connections, as each audit does
	clients  map[*fakeClient]bool
	serving  sync.WaitGroup
}

// fakeClient is one connection to it.
type fakeClient struct {
	net.Conn
	writing sync.Mutex
	events  map[string]bool
}

func newFakeCharon() *fakeCharon {
	return &fakeCharon{Version: "6.0.1", conns: map[string]vici.Message{}, shared: map[string]string{}, keys: map[string]bool{}, clients: map[*fakeClient]bool{}}
}

var errNotRunning = errors.New("connection refused")

// Dial connects to it, unless it is stopped.
func (f *fakeCharon) Dial(context.Context) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clients == nil {
		return nil, errNotRunning
	}
	here, there := net.Pipe()
	c := &fakeClient{Conn: there, events: map[string]bool{}}
	f.clients[c] = true
	f.serving.Go(func() { f.serve(c) })
	return here, nil
}

// Stop ends it as a kill does: what it knew is gone.
func (f *fakeCharon) Stop() {
	f.mu.Lock()
	for c := range f.clients {
		_ = c.Close()
	}
	f.clients, f.sas = nil, nil
	f.conns, f.shared, f.keys = map[string]vici.Message{}, map[string]string{}, map[string]bool{}
	f.mu.Unlock()
	f.serving.Wait()
}

// Start starts it after Stop.
func (f *fakeCharon) Start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clients = map[*fakeClient]bool{}
}

func (f *fakeCharon) serve(c *fakeClient) {
	defer func() { _ = c.Close() }()
	for {
		p, err := vici.ReadPacket(c)
		if err != nil {
			break
		}
		f.mu.Lock()
		answers := f.answer(c, p)
		f.mu.Unlock()
		if c.send(answers...) != nil {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clients, c)
}

func (c *fakeClient) send(packets ...vici.Packet) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	for _, p := range packets {
		if err := p.Write(c); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeCharon) answer(c *fakeClient, p vici.Packet) []vici.Packet {
	switch p.Type {
	case vici.EventRegister:
		if p.Name == "alert" { // as in 6.0.1
			return []vici.Packet{{Type: vici.EventUnknown}}
		}
		c.events[p.Name] = true
		return []vici.Packet{{Type: vici.EventConfirm}}
	case vici.EventUnregister:
		delete(c.events, p.Name)
		return []vici.Packet{{Type: vici.EventConfirm}}
	}
	if f.Mute[p.Name] {
		return nil
	}
	reason := ""
	if f.Refuse != nil {
		reason = f.Refuse(p.Name, p.Message)
	}
	if reason != "" {
		return []vici.Packet{{Type: vici.CmdResponse, Message: vici.Message{vici.Text("success", "no"), vici.Text("errmsg", reason)}}}
	}
	return f.command(p.Name, p.Message)
}

func (f *fakeCharon) command(name string, m vici.Message) []vici.Packet {
	reply := vici.Message{vici.Text("success", "yes")}
	var stream []vici.Packet
	about := ""
	switch name {
	case "version":
		reply = vici.Message{vici.Text("daemon", "charon-systemd"), vici.Text("version", f.Version)}
	case "get-conns":
		f.audits++
		reply = vici.Message{vici.List("conns", slices.Sorted(maps.Keys(f.conns))...)}
	case "get-shared":
		reply = vici.Message{vici.List("keys", slices.Sorted(maps.Keys(f.shared))...)}
	case "get-keys":
		reply = vici.Message{vici.List("keys", slices.Sorted(maps.Keys(f.keys))...)}
	case "load-key":
		about = "id" + strconv.Itoa(len(m.Get("data")))
		f.keys[about] = true
		reply = append(reply, vici.Text("id", about))
	case "load-shared":
		about = m.Get("id")
		f.shared[about] = m.Get("data")
	case "unload-shared":
		about = m.Get("id")
		delete(f.shared, about)
	case "load-conn":
		about = m[0].Name
		f.conns[about] = m
	case "unload-conn":
		about = m.Get("name")
		delete(f.conns, about)
	case "initiate":
		about = m.Get("child")
		f.initiate(m.Get("ike"), strings.TrimPrefix(m.Get("child"), m.Get("ike")+"-"))
	case "rekey":
		about = m.Get("child-id")
	case "terminate":
		about = m.Get("ike-id") + m.Get("child-id")
		f.terminate(m.Get("ike-id"))
	case "list-sas":
		f.lists++
		for _, s := range f.sas {
			if ike := m.Get("ike"); ike == "" || ike == s.Conn {
				stream = append(stream, vici.Packet{Type: vici.Event, Name: "list-sa", Message: showSA(*s)})
			}
		}
	default:
		return []vici.Packet{{Type: vici.CmdUnknown}}
	}
	if about != "" {
		f.commands = append(f.commands, name+" "+about)
	}
	return append(stream, vici.Packet{Type: vici.CmdResponse, Message: reply})
}

func (f *fakeCharon) initiate(conn, child string) {
	for _, s := range f.sas {
		if s.Conn == conn && s.State == "ESTABLISHED" {
			f.addChild(s, child)
			return
		}
	}
	f.serial++
	s := &sa{Conn: conn, ID: f.serial, SPI: fmt.Sprintf("%032x", f.serial), State: "CONNECTING", Initiator: true, Tasks: []string{"CHILD_CREATE"}}
	f.sas = append(f.sas, s)
	if !f.Hold {
		f.establish(s)
	}
}

func (f *fakeCharon) establish(s *sa) {
	s.State, s.Tasks = "ESTABLISHED", nil
	f.addChild(s, Out)
}

func (f *fakeCharon) addChild(s *sa, name string) {
	f.serial++
	child := childSA{Name: name, ID: f.serial, State: "INSTALLED", SPIIn: f.serial<<8 | 1, SPIOut: f.serial<<8 | 2, ESN: true}
	s.Children = append(s.Children, child)
	seen := *s
	seen.Children = []childSA{child}
	f.raise("child-updown", append(vici.Message{vici.Text("up", "yes")}, showSA(seen)...))
}

func (f *fakeCharon) terminate(id string) {
	f.sas = slices.DeleteFunc(f.sas, func(s *sa) bool {
		if strconv.FormatUint(uint64(s.ID), 10) != id {
			return false
		}
		f.raise("ike-updown", vici.Message{vici.Section(s.Conn)})
		for range s.Children {
			f.raise("child-updown", vici.Message{vici.Section(s.Conn)})
		}
		return true
	})
}

// raise sends an event to who listens, before anything else happens.
func (f *fakeCharon) raise(event string, m vici.Message) {
	for c := range f.clients {
		if c.events[event] {
			_ = c.send(vici.Packet{Type: vici.Event, Name: event, Message: m})
		}
	}
}

// Hears returns how many listen to an event.
func (f *fakeCharon) Hears(event string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.clients {
		if c.events[event] {
			n++
		}
	}
	return n
}

// Do has change work on it while nobody else does.
func (f *fakeCharon) Do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// Peers lets every peer set up its own child, as they do when there is an IKE SA.
func (f *fakeCharon) Peers() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sas {
		if s.State == "ESTABLISHED" && len(s.has(In)) == 0 {
			f.addChild(s, In)
		}
	}
}

// Commands returns what it was told since the last call, but for questions.
func (f *fakeCharon) Commands() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.commands
	f.commands = nil
	return was
}

// showSA is the opposite of readSA.
func showSA(s sa) vici.Message {
	var children vici.Message
	for _, c := range s.Children {
		children = append(children, vici.Section(fmt.Sprintf("%s-%s-%d", s.Conn, c.Name, c.ID),
			vici.Text("name", childName(s.Conn, c.Name)), vici.Text("uniqueid", fmt.Sprint(c.ID)), vici.Text("state", c.State),
			vici.Text("spi-in", fmt.Sprintf("%08x", c.SPIIn)), vici.Text("spi-out", fmt.Sprintf("%08x", c.SPIOut)), vici.Text("esn", "1"), vici.Text("install-time", "0")))
	}
	initiator := "no"
	if s.Initiator {
		initiator = "yes"
	}
	return vici.Message{vici.Section(s.Conn,
		vici.Text("uniqueid", fmt.Sprint(s.ID)), vici.Text("state", s.State), vici.Text("initiator", initiator),
		vici.Text("initiator-spi", s.SPI), vici.Text("established", "0"), vici.List("tasks-queued", s.Tasks...),
		vici.Section("child-sas", children...))}
}
