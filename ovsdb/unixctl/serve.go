// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"context"
	"net"
	"sync"
	"time"
)

// patience is how long a client may take to read an answer.
const patience = 10 * time.Second

// Serve answers on l until ctx ends or l fails, and closes it. An answer that is
// being given is given to its end. Clients do not wait for each other.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		} else if err != nil {
			return err
		}
		clients.Go(func() { s.talk(ctx, c) })
	}
}

// talk serves one client. The end of ctx ends it at the next request.
func (s *Server) talk(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	v := conversation{server: s}
	_ = v.follow(ctx, bounded{c}) // the client has left, or is none
}

// bounded is a connection whose client has to read.
type bounded struct{ net.Conn }

// Write gives up when the client does not read.
func (b bounded) Write(p []byte) (int, error) {
	if err := b.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	return b.Conn.Write(p)
}
