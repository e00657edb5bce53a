// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// setOptions is the command by which a client chooses the format of what follows.
const setOptions = "set-options"

// maxRequest bounds what is read for one request, in bytes.
const maxRequest = 64 << 10

// request is a request of JSON-RPC 1.0. One without an id would be a
// notification, for which there is no use here.
type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params []any           `json:"params"`
}

// reply answers a request.
type reply struct {
	id     json.RawMessage
	text   string
	failed bool // text is an error
	json   bool // wrap the result as clients want it that asked for JSON
}

// append appends the reply and a newline. encoding/json takes as long for a large
// text as it takes to make it.
func (r reply) append(b []byte) []byte {
	b = append(append(b, `{"id":`...), r.id...)
	switch {
	case r.failed:
		b = append(appendString(append(b, `,"result":null,"error":`...), r.text), '}')
	case r.json:
		b = appendString(append(b, `,"result":{"reply":`...), r.text)
		b = append(b, `,"reply-format":"plain"},"error":null}`...)
	default:
		b = append(appendString(append(b, `,"result":`...), r.text), `,"error":null}`...)
	}
	return append(b, '\n')
}

// appendString appends s as JSON (RFC 8259, section 7).
func appendString(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\ufffd")
	b = append(slices.Grow(b, len(s)+len(s)/16+64), '"')
	begin := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[begin:i]...)
		begin = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	return append(append(b, s[begin:]...), '"')
}

// conversation is what is said over one connection.
type conversation struct {
	server *Server
	json   bool // the client asked for JSON by set-options
}

// errNotRequest ends a conversation: so does every server of Open vSwitch.
var errNotRequest = errors.New("message is not a request")

// follow answers one request after the other until the client is gone, or says
// something that is none.
func (v *conversation) follow(ctx context.Context, c io.ReadWriter) error {
	bounded := &io.LimitedReader{R: c}
	in := json.NewDecoder(bounded)
	for {
		var r request
		bounded.N = maxRequest
		if err := in.Decode(&r); err != nil {
			return err
		}
		if id := string(r.ID); id == "" || id == "null" || r.Method == "" {
			return errNotRequest
		}
		if _, err := c.Write(v.answer(ctx, r).append(nil)); err != nil {
			return err
		}
	}
}

// answer carries out a request.
func (v *conversation) answer(ctx context.Context, r request) reply {
	command, args, err := v.server.find(r)
	var text string
	switch {
	case err != nil:
	case command.Name == setOptions:
		err = v.set(args)
	default:
		text, err = command.Run(ctx, args)
	}
	if err != nil {
		return reply{id: r.ID, text: line(err.Error()), failed: true}
	}
	return reply{id: r.ID, text: line(text), json: v.json}
}

// line ends a text with a newline, which older ones of ovs-appctl do not add.
func line(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// set takes "--format json" and the like.
func (v *conversation) set(args []string) error {
	format, is := strings.CutPrefix(strings.Join(args, "="), "--format=")
	switch {
	case !is:
		return fmt.Errorf("unrecognized option: %s", strings.Join(args, " "))
	case strings.EqualFold(format, "text"):
		v.json = false
	case strings.EqualFold(format, "json"):
		v.json = true
	default:
		return fmt.Errorf("option format has invalid value %s", format)
	}
	return nil
}
