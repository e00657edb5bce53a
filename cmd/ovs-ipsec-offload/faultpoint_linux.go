// SPDX-License-Identifier: Apache-2.0

//go:build faultpoint

package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/saved"
	"ovs-ipsec-offload/xfrm"
)

// faultVariable says where the process dies, by SIGKILL:
//
//	before:N    after:N     at its Nth step
//	before:TEXT after:TEXT  at the first step that has TEXT in its words
//	PERCENT,SEED:FILE       before and after steps that FILE does not hold yet,
//	                        which it is written into first: of all, the share
//	                        that SEED chooses
//	log:FILE                nowhere; steps are written into FILE
//
// A step is one change of the kernel, of the database, of hw-tc-offload, of the
// ledger, or of what is kept for the next boot.
const faultVariable = "OVS_IPSEC_FAULT"

// withFaultPoints puts a point before and after each step of c's edges.
func withFaultPoints(c plugin.Config) plugin.Config {
	how, what, ok := strings.Cut(os.Getenv(faultVariable), ":")
	if !ok {
		return c
	}
	p := &faultPoints{how: how, what: what}
	if percent, _, share := strings.Cut(how, ","); share {
		n, err := strconv.ParseUint(percent, 10, 32)
		if err != nil {
			panic(err)
		}
		p.percent = uint32(n)
	}
	c.Database = faultyDatabase{c.Database, p}
	c.Kernel = faultyKernel{c.Kernel, p}
	c.Gate = faultyGate{c.Gate, p}
	c.Ledger = faultyLedger{c.Ledger, p}
	if c.Saved != nil {
		c.Saved = faultyStore{c.Saved, p}
	}
	return c
}

// faultPoints counts steps and ends the process at the one that it was told.
type faultPoints struct {
	how, what string
	percent   uint32

	mu    sync.Mutex
	count int
}

// ids are what differs from one play of a story to the next.
var ids = regexp.MustCompile(` (spi|reqid) \S+`)

// step carries out a step between two points.
func (p *faultPoints) step(text string, do func()) {
	text, _, _ = strings.Cut(ids.ReplaceAllString(text, ""), "\n")
	p.mu.Lock()
	p.count++
	n := p.count
	p.mu.Unlock()
	p.point("before", n, text)
	do()
	p.point("after", n, text)
}

func (p *faultPoints) point(side string, n int, text string) {
	switch p.how {
	case side:
		if at, err := strconv.Atoi(p.what); err == nil && at == n || err != nil && strings.Contains(text, p.what) {
			die()
		}
	case "log":
		if side == "before" {
			p.note(fmt.Sprintf("%d %s", n, text))
		}
	default:
		if line := side + " " + text; p.chosen(line) && p.note(line) {
			die()
		}
	}
}

// chosen tells whether a line is in the share.
func (p *faultPoints) chosen(line string) bool {
	return crc32.ChecksumIEEE([]byte(p.how+line))%100 < p.percent
}

// note writes a line into the file unless it is there, and tells whether it did.
// A file that cannot be written fails the test that asked for it.
func (p *faultPoints) note(line string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	held, err := os.ReadFile(p.what)
	if err == nil && bytes.Contains(append([]byte("\n"), held...), []byte("\n"+line+"\n")) {
		return false
	}
	f, err := os.OpenFile(p.what, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
	}
	if err != nil {
		panic(err)
	}
	return f.Close() == nil
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

type faultyDatabase struct {
	plugin.Database
	p *faultPoints
}

// Report implements plugin.Database.
func (d faultyDatabase) Report(ctx context.Context, rs []ovsdb.Report) (err error) {
	d.p.step("report", func() { err = d.Database.Report(ctx, rs) })
	return err
}

// SetHWOffload implements plugin.Database.
func (d faultyDatabase) SetHWOffload(ctx context.Context, value string) (cfg int64, err error) {
	d.p.step("set hw-offload", func() { cfg, err = d.Database.SetHWOffload(ctx, value) })
	return cfg, err
}

// Hold implements plugin.Holder.
func (d faultyDatabase) Hold(ctx context.Context, h ovsdb.Hold) (cfg int64, err error) {
	d.p.step("hold", func() { cfg, err = d.Database.Hold(ctx, h) })
	return cfg, err
}

// Unhold implements plugin.Holder.
func (d faultyDatabase) Unhold(ctx context.Context) (cfg int64, err error) {
	d.p.step("unhold", func() { cfg, err = d.Database.Unhold(ctx) })
	return cfg, err
}

type faultyKernel struct {
	plugin.Kernel
	p *faultPoints
}

// Do implements plugin.Kernel, one operation at a time.
func (k faultyKernel) Do(ctx context.Context, ops []xfrm.Op) []error {
	errs := make([]error, len(ops))
	for i := range ops {
		k.p.step(ops[i].String(), func() { errs[i] = k.Kernel.Do(ctx, ops[i:i+1])[0] })
	}
	return errs
}

type faultyGate struct {
	plugin.Gate
	p *faultPoints
}

// Fence implements plugin.Gate.
func (g faultyGate) Fence(ctx context.Context, ifindexes []int, on bool) (changed []int, err error) {
	g.p.step(fmt.Sprintf("fence %v on=%t", ifindexes, on), func() { changed, err = g.Gate.Fence(ctx, ifindexes, on) })
	return changed, err
}

// Evict implements plugin.Gate.
func (g faultyGate) Evict(ctx context.Context, ifindexes []int) (n int, err error) {
	g.p.step("evict", func() { n, err = g.Gate.Evict(ctx, ifindexes) })
	return n, err
}

type faultyLedger struct {
	plugin.Ledger
	p *faultPoints
}

// Reserve implements plugin.Ledger.
func (l faultyLedger) Reserve(ctx context.Context, es []plugin.LedgerEntry) (err error) {
	l.p.step("reserve keys of "+pairsOf(es), func() { err = l.Ledger.Reserve(ctx, es) })
	return err
}

// Refused implements plugin.Ledger.
func (l faultyLedger) Refused(ctx context.Context, es []plugin.LedgerEntry) (err error) {
	l.p.step("give back keys of "+pairsOf(es), func() { err = l.Ledger.Refused(ctx, es) })
	return err
}

func pairsOf(es []plugin.LedgerEntry) string {
	ps := make([]string, len(es))
	for i := range es {
		ps[i] = es[i].Pair.String()
	}
	return strings.Join(ps, ", ")
}

type faultyStore struct {
	plugin.Store
	p *faultPoints
}

// Save implements plugin.Store.
func (s faultyStore) Save(state saved.State, batch string) (err error) {
	s.p.step("save", func() { err = s.Store.Save(state, batch) })
	return err
}
