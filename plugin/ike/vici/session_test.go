// SPDX-License-Identifier: Apache-2.0

package vici

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answered returns a Session whose other end plays the script.
func answered(t *testing.T, script func(net.Conn) error) *Session {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- script(there) }()
	t.Cleanup(func() {
		_ = here.Close()
		if err := <-done; err != nil {
			t.Errorf("daemon's end: %v", err)
		}
		_ = there.Close()
	})
	return NewSession(here)
}

// expect reads a packet and answers it.
func expect(c net.Conn, typ Type, name string, answers ...Packet) error {
	p, err := ReadPacket(c)
	if err != nil {
		return err
	}
	if p.Type != typ || p.Name != name {
		return fmt.Errorf("got packet %d %q, want %d %q", p.Type, p.Name, typ, name)
	}
	for _, a := range answers {
		if err := a.Write(c); err != nil {
			return err
		}
	}
	return nil
}

func TestStreamLosesNothing(t *testing.T) {
	const n = 5000
	s := answered(t, func(c net.Conn) error {
		answers := make([]Packet, 0, n+1)
		for i := range n {
			answers = append(answers, Packet{Event, "list-sa", Message{Text("n", fmt.Sprint(i))}})
		}
		return errors.Join(
			expect(c, EventRegister, "list-sa", Packet{Type: EventConfirm}),
			expect(c, CmdRequest, "list-sas", append(answers, Packet{Type: CmdResponse})...),
			expect(c, EventUnregister, "list-sa", answers[0], Packet{Type: EventConfirm}),
			expect(c, CmdRequest, "version", Packet{Type: CmdResponse}))
	})
	got := 0
	err := s.Stream(t.Context(), "list-sas", "list-sa", nil, func(m Message) {
		if m.Get("n") != fmt.Sprint(got) {
			t.Fatalf("event %d is %q", got, m.Get("n"))
		}
		got++
	})
	if err != nil || got != n {
		t.Fatalf("%d events, error %v", got, err)
	}
	if _, err := s.Call(t.Context(), "version", nil); err != nil {
		t.Errorf("the session is of no use afterwards: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s := answered(t, func(c net.Conn) error {
		return errors.Join(
			expect(c, CmdRequest, "load-conn", Packet{Type: CmdResponse, Message: Message{Text("success", "no"), Text("errmsg", "invalid value")}}),
			expect(c, CmdRequest, "nonsense", Packet{Type: CmdUnknown}),
			expect(c, CmdRequest, "version", Packet{Type: CmdResponse, Message: Message{Text("version", "6.0.1")}}))
	})
	_, err := s.Call(t.Context(), "load-conn", nil)
	if r, ok := errors.AsType[*Refusal](err); !ok || r.Error() != "load-conn: invalid value" {
		t.Errorf("refusal: %v", err)
	}
	if _, err = s.Call(t.Context(), "nonsense", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown command: %v", err)
	}
	if m, err := s.Call(t.Context(), "version", nil); err != nil || m.Get("version") != "6.0.1" {
		t.Errorf("the session is of no use after refusals: %v, %v", m, err)
	}
}

// The daemon reads all requests before it answers the first.
func TestCalls(t *testing.T) {
	s := answered(t, func(c net.Conn) error {
		return errors.Join(
			expect(c, CmdRequest, "load-shared"),
			expect(c, CmdRequest, "load-conn"),
			expect(c, CmdRequest, "nonsense"),
			expect(c, CmdRequest, "initiate",
				Packet{Type: CmdResponse, Message: Message{Text("success", "yes")}},
				Packet{Type: CmdResponse, Message: Message{Text("success", "no"), Text("errmsg", "invalid value")}},
				Packet{Type: CmdUnknown},
				Packet{Type: CmdResponse, Message: Message{Text("success", "yes")}}),
			expect(c, CmdRequest, "version", Packet{Type: CmdResponse}))
	})
	var got []string
	rs := []Request{{"load-shared", nil}, {"load-conn", nil}, {"nonsense", nil}, {"initiate", nil}}
	err := s.Calls(t.Context(), rs, func(i int, m Message, err error) {
		got = append(got, fmt.Sprintf("%s %s %v", rs[i].Command, m.Get("success"), err))
	})
	want := []string{"load-shared yes <nil>", "load-conn  load-conn: invalid value", "nonsense  nonsense: " + ErrUnknown.Error(), "initiate yes <nil>"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("error %v, answers %q, want %q", err, got, want)
	}
	if _, err := s.Call(t.Context(), "version", nil); err != nil {
		t.Errorf("the session is of no use afterwards: %v", err)
	}
}

// answeredOnce returns a Session whose other end answers the command a so, and then reads
// nothing more.
func answeredOnce(t *testing.T, answer Packet) *Session {
	t.Helper()
	end := make(chan struct{})
	s := answered(t, func(c net.Conn) error {
		err := expect(c, CmdRequest, "a", answer)
		<-end
		return err
	})
	t.Cleanup(func() { close(end) }) // before answered's, which waits for the script
	return s
}

// A daemon that answers one of three and then reads nothing more.
func TestCallsEndWithTheirContext(t *testing.T) {
	s := answeredOnce(t, Packet{Type: CmdResponse})
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	answers := 0
	err := s.Calls(ctx, []Request{{"a", nil}, {"b", nil}, {"c", nil}}, func(int, Message, error) { answers++; cancel(why) })
	if !errors.Is(err, why) || answers != 1 {
		t.Errorf("error %v after %d answers", err, answers)
	}
}

// An answer that is none ends the sending, too: the daemon reads nothing more.
func TestCallsAnsweredWithNonsense(t *testing.T) {
	s := answeredOnce(t, Packet{Type: EventConfirm})
	err := s.Calls(t.Context(), []Request{{"a", nil}, {"b", nil}}, func(int, Message, error) { t.Error("an answer") })
	if err == nil || !strings.HasPrefix(err.Error(), "a: unexpected packet") {
		t.Errorf("error %v", err)
	}
}

// What cannot be sent ends the waiting for answers.
func TestCallsTooLarge(t *testing.T) {
	s := answered(t, func(c net.Conn) error { return expect(c, CmdRequest, "a") })
	large := Message{Data("data", make([]byte, 40<<10))}
	for len(large) < 16 {
		large = append(large, large...)
	}
	err := s.Calls(t.Context(), []Request{{"a", nil}, {"b", large}}, func(int, Message, error) { t.Error("an answer") })
	if err == nil || !strings.HasPrefix(err.Error(), "b: encode packet") {
		t.Errorf("error %v", err)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	heard := make(chan struct{})
	s := answered(t, func(c net.Conn) error {
		err := expect(c, CmdRequest, "version")
		close(heard)
		return err
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	go func() {
		<-heard
		cancel(why)
	}()
	if _, err := s.Call(ctx, "version", nil); !errors.Is(err, why) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestListen(t *testing.T) {
	s := answered(t, func(c net.Conn) error {
		return errors.Join(
			expect(c, EventRegister, "child-updown", Packet{Type: EventConfirm}),
			expect(c, EventRegister, "alert",
				Packet{Event, "child-updown", Message{Text("n", "while registering")}}, Packet{Type: EventUnknown}),
			Packet{Event, "child-updown", Message{Text("n", "afterwards")}}.Write(c),
			c.Close())
	})
	var got []string
	err := s.Listen(t.Context(), []string{"child-updown", "alert"},
		func() { got = append(got, "ready") },
		func(name string, m Message) { got = append(got, name+" "+m.Get("n")) })
	if err == nil {
		t.Error("the end of the connection is no error")
	}
	want := "[child-updown while registering ready child-updown afterwards]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDeadlineOfOneCallIsNotTheNextOnes(t *testing.T) {
	s := answered(t, func(c net.Conn) error {
		return errors.Join(expect(c, CmdRequest, "a", Packet{Type: CmdResponse}), expect(c, CmdRequest, "b", Packet{Type: CmdResponse}))
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	if _, err := s.Call(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Call(t.Context(), "b", nil); err != nil {
		t.Error(err)
	}
}
