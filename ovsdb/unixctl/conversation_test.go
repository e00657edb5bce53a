// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is a server with a command of each kind.
func sample() *Server {
	return New("prog 1.2",
		Command{Name: "say", Usage: "WORD...", Min: 1, Max: math.MaxInt, Run: func(_ context.Context, args []string) (string, error) {
			return strings.Join(args, " ") + "\n", nil
		}},
		Command{Name: "fail", Run: func(context.Context, []string) (string, error) { return "", errors.New("no luck") }},
		Command{Name: "wait", Run: func(ctx context.Context, _ []string) (string, error) { <-ctx.Done(); return "over", nil }},
	)
}

// pipe is what a client said and what it is told.
type pipe struct {
	io.Reader
	bytes.Buffer
}

func (p *pipe) Read(b []byte) (int, error) { return p.Reader.Read(b) }

// said returns the answers to what one client says.
func said(s *Server, text string) (answers string, err error) {
	p := &pipe{Reader: strings.NewReader(text)}
	v := conversation{server: s}
	err = v.follow(context.Background(), p)
	return p.String(), err
}

func TestConversation(t *testing.T) {
	for _, tc := range []struct{ name, say, want string }{
		{"a command", `{"id":0,"method":"version","params":[]}`, `{"id":0,"result":"prog 1.2\n","error":null}`},
		{"arguments", `{"id":"x","method":"say","params":["a<b","\"c\""]}`, `{"id":"x","result":"a<b \"c\"\n","error":null}`},
		{"an error", `{"id":1,"method":"fail","params":[]}`, `{"id":1,"result":null,"error":"no luck\n"}`},
		{"unknown", `{"id":1,"method":"nosuch","params":[]}`, `{"id":1,"result":null,"error":"\"nosuch\" is not a valid command: list-commands names those that are\n"}`},
		{"too few", `{"id":1,"method":"say","params":[]}`, `{"id":1,"result":null,"error":"\"say\" command requires at least 1 arguments\n"}`},
		{"too many", `{"id":1,"method":"fail","params":["a"]}`, `{"id":1,"result":null,"error":"\"fail\" command takes at most 0 arguments\n"}`},
		{"no string", `{"id":1,"method":"say","params":[1]}`, `{"id":1,"result":null,"error":"\"say\" command has non-string argument\n"}`},
		{"help", `{"id":1,"method":"help","params":[]}`, `{"id":1,"result":"The available commands are:\n  fail\n  help\n  list-commands\n  say                     WORD...\n` +
			`  set-options             [--format text|json]\n  version\n  wait\n","error":null}`},
		{"one after the other, as JSON and back", `{"id":1,"method":"set-options","params":["--format","json"]}{"id":2,"method":"version","params":[]}` +
			`{"id":3,"method":"fail","params":[]} {"id":4,"method":"set-options","params":["--format=text"]}{"id":5,"method":"version","params":[]}`,
			`{"id":1,"result":{"reply":"","reply-format":"plain"},"error":null}
{"id":2,"result":{"reply":"prog 1.2\n","reply-format":"plain"},"error":null}
{"id":3,"result":null,"error":"no luck\n"}
{"id":4,"result":"","error":null}
{"id":5,"result":"prog 1.2\n","error":null}`},
		{"another format", `{"id":1,"method":"set-options","params":["--format","xml"]}`, `{"id":1,"result":null,"error":"option format has invalid value xml\n"}`},
		{"another option", `{"id":1,"method":"set-options","params":["--colour"]}`, `{"id":1,"result":null,"error":"unrecognized option: --colour\n"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := said(sample(), tc.say)
			if !errors.Is(err, io.EOF) {
				t.Errorf("ended by %v", err)
			}
			if diff := cmp.Diff(tc.want+"\n", got); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConversationEnds(t *testing.T) {
	for name, say := range map[string]string{
		"notification":    `{"id":null,"method":"version","params":[]}`,
		"no id":           `{"method":"version","params":[]}`,
		"answer":          `{"id":1,"result":"x","error":null}`,
		"no JSON":         `version`,
		"params no array": `{"id":1,"method":"version","params":{}}`,
		"endless":         `{"id":1,"method":"` + strings.Repeat("x", maxRequest),
	} {
		if got, err := said(sample(), say); got != "" || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// FuzzConversation: whatever a client says, it hears JSON or nothing.
func FuzzConversation(f *testing.F) {
	f.Add(`{"id":0,"method":"version","params":[]}`)
	f.Add(`{"id":1,"method":"set-options","params":["--format","json"]}{"id":[],"method":"say","params":["\u2028"]}`)
	f.Add(`{"id":1,"method":"help","params":[null]}x`)
	s := New("v", Command{Name: "say", Max: 9, Run: func(_ context.Context, args []string) (string, error) { return strings.Join(args, " "), nil }})
	f.Fuzz(func(t *testing.T, text string) {
		answers, err := said(s, text)
		if err == nil {
			t.Error("it never ends")
		}
		for line := range strings.Lines(answers) {
			if !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %s", line)
			}
		}
	})
}

// FuzzString: every text comes out as it went in, but for what is not UTF-8.
func FuzzString(f *testing.F) {
	f.Add("a\"b\\c\n\x00\x1f\x7f\u2028\xff<")
	f.Fuzz(func(t *testing.T, text string) {
		var got string
		if err := json.Unmarshal(appendString(nil, text), &got); err != nil || got != strings.ToValidUTF8(text, "\ufffd") {
			t.Errorf("%q came out as %q, %v", text, got, err)
		}
	})
}

// TestServe: clients do not wait for each other, and the end comes to all.
func TestServe(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sample().Serve(ctx, l) }()
	dial := func(say string) net.Conn {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, say); err != nil {
			t.Fatal(err)
		}
		return c
	}
	hears := func(c net.Conn, want string) {
		t.Helper()
		var r struct{ Result string }
		if err := json.NewDecoder(c).Decode(&r); err != nil || r.Result != want {
			t.Errorf("got %q, %v; want %q", r.Result, err, want)
		}
	}
	silent := dial("")
	waits := dial(`{"id":1,"method":"wait","params":[]}`)
	hears(dial(`{"id":1,"method":"version","params":[]}`), "prog 1.2\n")
	cancel()
	hears(waits, "over\n")
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent client: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
