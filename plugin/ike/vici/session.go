// SPDX-License-Identifier: Apache-2.0

package vici

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// longAgo is a deadline that ends what goes on.
var longAgo = time.Unix(1, 0)

// ErrUnknown is in the error of a command or event that the daemon does not have.
var ErrUnknown = errors.New("the daemon does not know it")

// Refusal is the daemon's "no" to a command. The session goes on.
type Refusal struct {
	Command string
	Reason  string // the daemon's words
}

// Error says what was refused and why.
func (r *Refusal) Error() string { return r.Command + ": " + r.Reason }

// Session is one connection. It serves one goroutine. After an error that is
// neither a Refusal nor ErrUnknown it is of no use any more.
type Session struct {
	conn net.Conn
	r    *bufio.Reader
}

// NewSession takes over conn.
func NewSession(conn net.Conn) *Session {
	return &Session{conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}
}

// Close closes the connection.
func (s *Session) Close() error { return s.conn.Close() }

// Call has the daemon carry out a command and returns its answer.
func (s *Session) Call(ctx context.Context, command string, m Message) (Message, error) {
	defer s.bind(ctx)()
	answer, err := s.call(command, m, func(Message) {})
	return answer, s.because(ctx, command, err)
}

// Request is a command with its message.
type Request struct {
	Command string
	Message Message
}

// Calls has the daemon carry out commands in their order, none of which waits for the
// answer to the one before. It calls each for every answer. err is nil, or a Refusal or
// ErrUnknown, after which the next ones go on.
func (s *Session) Calls(ctx context.Context, rs []Request, each func(i int, answer Message, err error)) error {
	defer s.bind(ctx)()
	written := make(chan error, 1)
	go func() { written <- s.write(rs) }()
	for i, r := range rs {
		answer, err := s.reply(r.Command, func(Message) {})
		if err != nil && !IsRefusal(err) {
			_ = s.conn.SetDeadline(longAgo) // ends the writing
			if unsent := <-written; unsent != nil && ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
				return unsent // which is why nothing came to be read
			}
			return s.because(ctx, r.Command, err)
		}
		if errors.Is(err, ErrUnknown) {
			err = fmt.Errorf("%s: %w", r.Command, err) // as Call says it
		}
		each(i, answer, err)
	}
	return <-written
}

// write writes requests. Nobody is left to wait for an answer to what it cannot write.
func (s *Session) write(rs []Request) error {
	for _, r := range rs {
		if err := (Packet{CmdRequest, r.Command, r.Message}).Write(s.conn); err != nil {
			_ = s.conn.SetDeadline(longAgo)
			return fmt.Errorf("%s: %w", r.Command, err)
		}
	}
	return nil
}

// IsRefusal tells whether err is the daemon's answer, after which the session goes on.
func IsRefusal(err error) bool {
	_, refused := errors.AsType[*Refusal](err)
	return refused || errors.Is(err, ErrUnknown)
}

// Stream is Call for a command that answers with events, for each of which it
// calls each.
func (s *Session) Stream(ctx context.Context, command, event string, m Message, each func(Message)) error {
	defer s.bind(ctx)()
	return s.because(ctx, command, s.stream(command, event, m, each))
}

func (s *Session) stream(command, event string, m Message, each func(Message)) error {
	ignore := func(Packet) {}
	if err := s.register(EventRegister, event, ignore); err != nil {
		return err
	}
	if _, err := s.call(command, m, each); err != nil {
		return err
	}
	return s.register(EventUnregister, event, ignore)
}

// Listen asks for the events of those names that the daemon has, calls ready,
// and then each for every event until ctx ends or the connection fails. The
// session is used up by it.
func (s *Session) Listen(ctx context.Context, events []string, ready func(), each func(name string, m Message)) error {
	defer s.bind(ctx)()
	pass := func(p Packet) { each(p.Name, p.Message) }
	for _, e := range events {
		if err := s.register(EventRegister, e, pass); err != nil && !errors.Is(err, ErrUnknown) {
			return s.because(ctx, "listen", err)
		}
	}
	ready()
	for {
		p, err := ReadPacket(s.r)
		if err != nil {
			return s.because(ctx, "listen", err)
		}
		if p.Type == Event {
			pass(p)
		}
	}
}

func (s *Session) call(command string, m Message, each func(Message)) (Message, error) {
	if err := (Packet{CmdRequest, command, m}).Write(s.conn); err != nil {
		return nil, err
	}
	return s.reply(command, each)
}

// reply reads the answer to a command.
func (s *Session) reply(command string, each func(Message)) (Message, error) {
	answer, err := s.answer(func(p Packet) { each(p.Message) })
	switch {
	case err != nil:
		return nil, err
	case answer.Type == CmdUnknown:
		return nil, ErrUnknown
	case answer.Type != CmdResponse:
		return nil, fmt.Errorf("unexpected packet of type %d", answer.Type)
	case answer.Message.Get("success") == "no":
		return nil, &Refusal{Command: command, Reason: answer.Message.Get("errmsg")}
	}
	return answer.Message, nil
}

func (s *Session) register(typ Type, event string, each func(Packet)) error {
	if err := (Packet{typ, event, nil}).Write(s.conn); err != nil {
		return err
	}
	answer, err := s.answer(each)
	switch {
	case err != nil:
		return err
	case answer.Type == EventUnknown:
		return fmt.Errorf("event %s: %w", event, ErrUnknown)
	case answer.Type != EventConfirm:
		return fmt.Errorf("event %s: unexpected packet of type %d", event, answer.Type)
	}
	return nil
}

// answer reads until a packet that is no event.
func (s *Session) answer(each func(Packet)) (Packet, error) {
	for {
		p, err := ReadPacket(s.r)
		if err != nil || p.Type != Event {
			return p, err
		}
		each(p)
	}
}

// bind makes reading and writing end with ctx, until the function it returns
// is called.
func (s *Session) bind(ctx context.Context) func() {
	_ = s.conn.SetDeadline(time.Time{})
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = s.conn.SetDeadline(longAgo)
		close(done)
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// because names the command, and ctx if that is what ended it.
func (s *Session) because(ctx context.Context, command string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Refusal](err); ok {
		return err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s: %w", command, err)
}
