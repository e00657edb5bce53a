// SPDX-License-Identifier: Apache-2.0

//go:build lab

package gate

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// rate is how many packets the sender sends in a second, over all flows.
const rate = 200

// answer sends back what comes to n UDP ports.
func answer(n int) error {
	var wg sync.WaitGroup
	for p := firstPort; p < firstPort+n; p++ {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: p})
		if err != nil {
			return err
		}
		wg.Go(func() {
			b := make([]byte, 64)
			for {
				k, from, err := c.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				_, _ = c.WriteToUDPAddrPort(b[:k], from)
			}
		})
	}
	wg.Wait()
	return nil
}

// tally counts answers.
type tally struct {
	mu   sync.Mutex
	got  map[uint64]bool
	last time.Time
	gap  time.Duration // the longest without any answer
}

func (t *tally) take(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if !t.last.IsZero() {
		t.gap = max(t.gap, now.Sub(t.last))
	}
	t.last, t.got[seq] = now, true
}

func (t *tally) count() (int, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.got), t.gap
}

// send sends numbered packets to n UDP ports in turn until SIGTERM, and says
// how many came back.
func send(n int, w io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	t := &tally{got: map[uint64]bool{}}
	conns := make([]*net.UDPConn, n)
	for i := range conns {
		c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(192, 168, 7, 2), Port: firstPort + i})
		if err != nil {
			return err
		}
		defer c.Close()
		go func() {
			b := make([]byte, 64)
			for {
				k, err := c.Read(b)
				if err == nil && k == 8 {
					t.take(binary.BigEndian.Uint64(b))
				} else if err != nil && ctx.Err() != nil {
					return
				}
			}
		}()
		conns[i] = c
	}
	sent := 0
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if _, err := conns[sent%n].Write(binary.BigEndian.AppendUint64(nil, uint64(sent))); err == nil {
				sent++
			}
		}
	}
	got, gap := t.count()
	for end := time.Now().Add(3 * time.Second); got < sent && time.Now().Before(end); got, _ = t.count() {
		time.Sleep(10 * time.Millisecond) // there is no event for a packet that does not come
	}
	_, err := fmt.Fprintf(w, "%d sent, %d lost, longest gap %d ms\n", sent, sent-got, gap.Milliseconds())
	return err
}
