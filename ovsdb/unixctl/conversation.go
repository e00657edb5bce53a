// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// reply answers a request; one of Result and Error is nil.
type reply struct {
	ID     json.RawMessage `json:"id"`
	Result any             `json:"result"`
	Error  any             `json:"error"`
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
	in, out := json.NewDecoder(bounded), json.NewEncoder(c)
	out.SetEscapeHTML(false)
	for {
		var r request
		bounded.N = maxRequest
		if err := in.Decode(&r); err != nil {
			return err
		}
		if id := string(r.ID); id == "" || id == "null" || r.Method == "" {
			return errNotRequest
		}
		if err := out.Encode(v.answer(ctx, r)); err != nil {
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
	switch {
	case err != nil:
		return reply{ID: r.ID, Error: line(err.Error())}
	case v.json:
		return reply{ID: r.ID, Result: map[string]string{"reply-format": "plain", "reply": line(text)}}
	}
	return reply{ID: r.ID, Result: line(text)}
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
