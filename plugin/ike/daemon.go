// SPDX-License-Identifier: Apache-2.0

package ike

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ovs-ipsec-offload/plugin/ike/vici"
)

// daemon is the connection for commands.
type daemon struct {
	session *vici.Session
	timeout time.Duration
}

func (d daemon) call(ctx context.Context, command string, m vici.Message) (vici.Message, error) {
	ctx, cancel := d.limit(ctx)
	defer cancel()
	return d.session.Call(ctx, command, m)
}

func (d daemon) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d.timeout, silence(d.timeout))
}

// patient returns a context that ends when the daemon has said nothing for the timeout.
// heard is to be called for each answer, end when no more are awaited.
func (d daemon) patient(ctx context.Context) (_ context.Context, heard, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	silent := time.AfterFunc(d.timeout, func() { cancel(silence(d.timeout)) })
	return ctx, func() { silent.Reset(d.timeout) }, func() { silent.Stop(); cancel(nil) }
}

// silence is the error of a daemon that took a command and did not answer for so
// long.
type silence time.Duration

// Error says for how long.
func (s silence) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(s)) }

func (d daemon) version(ctx context.Context) (version, error) {
	m, err := d.call(ctx, "version", nil)
	return readVersion(m), err
}

// ours returns what a command lists, as far as it is ours.
func (d daemon) ours(ctx context.Context, command, list string) (map[string]bool, error) {
	m, err := d.call(ctx, command, nil)
	found := map[string]bool{}
	for _, name := range m.Items(list) {
		if strings.HasPrefix(name, Prefix) {
			found[name] = true
		}
	}
	return found, err
}

// list returns the IKE SAs of one Conn, or of all if conn is "", by Conn. A long list
// takes its time: what must not take long is each of it.
func (d daemon) list(ctx context.Context, conn string) (map[string][]sa, error) {
	ctx, heard, end := d.patient(ctx)
	defer end()
	var filter vici.Message
	if conn != "" {
		filter = vici.Message{vici.Text("ike", conn)}
	}
	found := map[string][]sa{}
	err := d.session.Stream(ctx, "list-sas", "list-sa", filter, func(m vici.Message) {
		heard()
		for _, s := range readSAs(m) {
			if strings.HasPrefix(s.Conn, Prefix) {
				found[s.Conn] = append(found[s.Conn], s)
			}
		}
	})
	return found, err
}

// may carries out a command that the daemon may refuse, because what it is about
// is gone by itself.
func (d daemon) may(ctx context.Context, command string, m vici.Message) error {
	_, err := d.call(ctx, command, m)
	if vici.IsRefusal(err) {
		return nil
	}
	return err
}
