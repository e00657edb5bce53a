// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Runner runs scripts against a NIC. Some checks hold only a while after the
// command that brings them about (a kernel frees states later): Wait returns
// when it is worth to look again, and an error when it is not; tries counts
// from 0 for each check. Without Wait all must hold at once.
type Runner struct {
	NIC  NIC
	Wait func(ctx context.Context, tries int) error
}

// run is the state of one script.
type run struct {
	Runner
	before Status // when the last packet was sent
	sent   bool
	fate   Fate
}

// Run gives an error if the NIC does not behave as the script says. The error
// begins with the line.
func (u Runner) Run(ctx context.Context, r Rule) error {
	if err := u.NIC.Reset(ctx, r.Params); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	x := run{Runner: u}
	for _, s := range r.Steps {
		if err := x.step(ctx, s); err != nil {
			return fmt.Errorf("line %d: %w", s.Line, err)
		}
	}
	return nil
}

func (x *run) step(ctx context.Context, s Step) error {
	switch {
	case s.Request != nil:
		return x.request(ctx, s.Request)
	case s.Send != nil:
		return x.send(ctx, *s.Send)
	}
	return x.check(ctx, s.Check)
}

func (x *run) request(ctx context.Context, q *Request) error {
	a, err := x.NIC.Apply(ctx, q.Command)
	if err == nil {
		err = q.Want.compare(a)
	}
	if err != nil {
		return fmt.Errorf("%v: %w", q.Command, err)
	}
	return nil
}

func (w Want) compare(a Answer) error {
	switch {
	case a.Errno != w.Errno:
		return fmt.Errorf("want %s, have %s (%s)", orOK(w.Errno), orOK(a.Errno), a.Text)
	case !strings.Contains(a.Text, w.Text):
		return fmt.Errorf("want text %q, have %q", w.Text, a.Text)
	case w.Hardware == "yes" && !a.InHW:
		return errors.New("not in hardware")
	case w.Hardware == "no" && a.InHW:
		return errors.New("in hardware")
	}
	return nil
}

func orOK(errno string) string {
	if errno == "" {
		return "ok"
	}
	return errno
}

func (x *run) send(ctx context.Context, p Packet) error {
	before, err := x.NIC.Status(ctx)
	if err != nil {
		return err
	}
	fate, err := x.NIC.Send(ctx, p)
	if err != nil {
		return fmt.Errorf("send %v: %w", p, err)
	}
	x.before, x.sent, x.fate = before, true, fate
	return nil
}

func (x *run) check(ctx context.Context, c *Check) error {
	for tries := 0; ; tries++ {
		err := x.look(ctx, c)
		if err == nil || x.Wait == nil || c.Kind == Out || c.Kind == In {
			return err
		}
		if x.Wait(ctx, tries) != nil {
			return err
		}
	}
}

func (x *run) look(ctx context.Context, c *Check) error {
	if !x.sent && (c.Kind == Counter || c.Kind == Out || c.Kind == In) {
		return fmt.Errorf("%s before the first send", c.Kind)
	}
	switch c.Kind {
	case Out:
		return x.checkOut(c.Value)
	case In:
		return differ("came in at", c.Value, choose(x.fate.In == "", "none", string(x.fate.In)))
	}
	if c.Kind == Stat {
		return x.checkStat(ctx, c)
	}
	now, err := x.NIC.Status(ctx)
	if err != nil {
		return err
	}
	return c.compare(x.before, now)
}

func (x *run) checkStat(ctx context.Context, c *Check) error {
	names, err := x.NIC.Counters(ctx)
	if err != nil {
		return err
	}
	return differ(c.Key, c.Value, choose(slices.Contains(names, c.Key), "shown", "hidden"))
}

func (x *run) checkOut(value string) error {
	want, err := parseFrames(value)
	if err != nil {
		return err
	}
	return differ("went out", framesString(want), framesString(x.fate.Out))
}

func (c *Check) compare(before, now Status) error {
	switch c.Kind {
	case Log:
		if !slices.ContainsFunc(now.Log, func(s string) bool { return strings.Contains(s, c.Value) }) {
			return fmt.Errorf("no event %q in the log", c.Value)
		}
		return nil
	case Counter:
		grown, err := growth(before, now, c.Key)
		if err != nil {
			return err
		}
		return differ(c.Key, c.Value, grown)
	}
	have, ok := now.Values[c.Key]
	if !ok {
		return fmt.Errorf("the NIC has no %s", c.Key)
	}
	return differ(c.Key, c.Value, have)
}

// growth gives what a counter has grown by as +N.
func growth(before, now Status, key string) (string, error) {
	b, err := strconv.ParseUint(before.Values[key], 10, 64)
	if err != nil {
		return "", fmt.Errorf("counter %s: %w", key, err)
	}
	n, err := strconv.ParseUint(now.Values[key], 10, 64)
	if err != nil {
		return "", fmt.Errorf("counter %s: %w", key, err)
	}
	if n < b {
		return "", fmt.Errorf("counter %s went back from %d to %d", key, b, n)
	}
	return fmt.Sprintf("+%d", n-b), nil
}

func differ(what, want, have string) error {
	if want == have {
		return nil
	}
	return fmt.Errorf("%s: want %s, have %s", what, want, have)
}
