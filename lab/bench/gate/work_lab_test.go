// SPDX-License-Identifier: Apache-2.0

//go:build lab

package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/tc"
)

const (
	limit = 60 * time.Second // of a wait for something that has to happen
	watch = 4 * time.Second  // how long rules are given to come back by themselves
)

// worker works the gate of this hypervisor.
type worker struct {
	flows   int // in both directions
	db      *ovsdb.Watch
	ovs     ovsdb.Vswitchd
	pf      []int
	reps    []int
	tunnels []int
	start   time.Time
	figures []string
}

// work goes through the gate in the way that each line of its input names.
func work(ctx context.Context, n int) error {
	db, err := ovsdb.New(ovsdb.Config{Endpoint: "unix:/run/openvswitch/db.sock"})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { db.Run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	w := &worker{flows: 2 * n, db: db, ovs: ovsdb.Vswitchd{RunDir: "/run/openvswitch"}}
	err = until("the database", func() (bool, error) { _, s := db.Current(); return s.Connected, nil })
	if err != nil {
		return err
	}
	ways := map[string]func(context.Context) error{"hold": w.hold, "evict": w.evict, "unfenced": w.unfenced, "both": w.both}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := w.devices(ctx); err != nil {
			return err
		}
		if err := w.full(ctx); err != nil {
			return err
		}
		w.figures, w.start = nil, time.Now()
		if err := ways[lines.Text()](ctx); err != nil {
			return fmt.Errorf("%s: %s: %w\n%s", lines.Text(), strings.Join(w.figures, ", "), err, look())
		}
		fmt.Println(strings.Join(w.figures, ", "))
	}
	return nil
}

// look shows what is there when something did not go as it must.
func look() string {
	out, err := exec.Command("sh", "-c", "for d in rep0 vxlan_sys_4789; do echo $d; tc filter show dev $d ingress; done; "+
		"ovs-appctl upcall/show; ovs-appctl dpctl/dump-flows -m; tail -n 20 /var/log/openvswitch/ovs-vswitchd.log").CombinedOutput()
	return fmt.Sprintf("%s%v", out, err)
}

func (w *worker) devices(ctx context.Context) error {
	f, err := devlink.NewReader().Facts(ctx)
	if err != nil || len(f.PFs) != 1 {
		return fmt.Errorf("%d PFs, %w", len(f.PFs), err)
	}
	w.pf, w.reps, w.tunnels = []int{f.PFs[0].Ifindex}, nil, f.TunnelDevs
	for _, r := range f.PFs[0].Representors {
		w.reps = append(w.reps, r.Ifindex)
	}
	return nil
}

func (w *worker) devs() []int {
	return append(append(append([]int{}, w.reps...), w.tunnels...), w.pf...)
}

// note books the time since the start of the turn.
func (w *worker) note(what string) {
	w.figures = append(w.figures, fmt.Sprintf("%s %.0f ms", what, float64(time.Since(w.start).Microseconds())/1000))
}

// until polls, for rules come and go without an event that is worth trusting.
func until(what string, is func() (bool, error)) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok, err := is(); ok || err != nil {
			return err
		}
	}
	return errors.New("waited too long for " + what)
}

func (w *worker) inHW(ctx context.Context) (int, error) {
	r, err := tc.Scanner{}.Offloaded(ctx, w.devs())
	return r.Total, err
}

func (w *worker) full(ctx context.Context) error {
	return until("all flows to be in hardware", func() (bool, error) {
		n, err := w.inHW(ctx)
		return n >= w.flows, err
	})
}

func (w *worker) empty(ctx context.Context, devs []int) error {
	return until("hardware to be empty", func() (bool, error) {
		_, found, err := tc.Scanner{}.Any(ctx, devs)
		return !found, err
	})
}

// taken waits until ovs-vswitchd has taken a change.
func (w *worker) taken(cfg int64) error {
	return until("ovs-vswitchd to take the change", func() (bool, error) {
		s, _ := w.db.Current()
		return s.Host.CurCfg >= cfg, nil
	})
}

// come watches for rules that come into empty hardware, and notes when the first
// came and how many are there in the end.
func (w *worker) come(ctx context.Context, what string) error {
	first := true
	for end := time.Now().Add(watch); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_, found, err := tc.Scanner{}.Any(ctx, w.devs())
		if err != nil {
			return err
		}
		if found && first {
			w.note(what + ": first after")
			first = false
		}
	}
	n, err := w.inHW(ctx)
	w.figures = append(w.figures, fmt.Sprintf("%s: %d", what, n))
	return err
}

// back makes OVS look at its flows again and waits until all are in hardware.
func (w *worker) back(ctx context.Context) error {
	w.start = time.Now()
	if err := w.ovs.Purge(ctx); err != nil {
		return err
	}
	w.note("then purged after")
	if err := w.full(ctx); err != nil {
		return err
	}
	w.note("all back after")
	return nil
}

// hold is the gentle way: flow-limit=0.
func (w *worker) hold(ctx context.Context) error {
	cfg, err := w.db.Hold(ctx, ovsdb.Hold{Why: "bench", Since: time.Now(), Boot: "bench"})
	if err != nil {
		return err
	}
	w.note("written")
	if err := w.taken(cfg); err != nil {
		return err
	}
	w.note("taken")
	if err := w.empty(ctx, w.reps); err != nil {
		return err
	}
	w.note("no encap rule")
	if err := w.empty(ctx, w.devs()); err != nil {
		return err
	}
	w.note("empty")
	if err := w.come(ctx, "came back while held"); err != nil {
		return err
	}
	return w.release(ctx)
}

// release ends a hold.
func (w *worker) release(ctx context.Context) error {
	w.start = time.Now()
	cfg, err := w.db.Unhold(ctx)
	if err != nil {
		return err
	}
	if err := w.taken(cfg); err != nil {
		return err
	}
	w.note("release taken")
	return w.back(ctx)
}

// evict is the fast way: behind a fence, encap rules first.
func (w *worker) evict(ctx context.Context) error {
	if err := w.fenceAndEvict(ctx); err != nil {
		return err
	}
	if err := w.come(ctx, "came back behind the fence"); err != nil {
		return err
	}
	w.start = time.Now()
	if _, err := (devlink.Fence{}).Set(ctx, append(append([]int{}, w.pf...), w.reps...), true); err != nil {
		return err
	}
	if err := w.come(ctx, "came back without purge"); err != nil {
		return err
	}
	return w.back(ctx)
}

func (w *worker) fenceAndEvict(ctx context.Context) error {
	if _, err := (devlink.Fence{}).Set(ctx, w.reps, false); err != nil {
		return err
	}
	w.note("representors fenced")
	if err := w.drain(ctx, "encap", w.reps); err != nil {
		return err
	}
	if err := w.drain(ctx, "decap", w.tunnels); err != nil {
		return err
	}
	// Decap rules come until the PF is fenced, which it refuses while it has any.
	err := until("the PF to be fenced", func() (bool, error) {
		_, err := devlink.Fence{}.Set(ctx, w.pf, false)
		if err == nil {
			return true, nil
		}
		return false, w.drain(ctx, "decap again", w.tunnels)
	})
	w.note("PF fenced")
	return err
}

func (w *worker) drain(ctx context.Context, what string, devs []int) error {
	n, err := tc.Drain{}.Evict(ctx, devs)
	w.note(fmt.Sprintf("%d %s rules out", n, what))
	return err
}

// unfenced evicts without a fence, to see what OVS does then.
func (w *worker) unfenced(ctx context.Context) error {
	if err := w.drain(ctx, "encap", w.reps); err != nil {
		return err
	}
	if err := w.drain(ctx, "decap", w.tunnels); err != nil {
		return err
	}
	if err := w.come(ctx, "came back"); err != nil {
		return err
	}
	return w.back(ctx)
}

// both evicts behind a fence, and holds: what a leak calls for.
func (w *worker) both(ctx context.Context) error {
	if err := w.fenceAndEvict(ctx); err != nil {
		return err
	}
	cfg, err := w.db.Hold(ctx, ovsdb.Hold{Why: "bench", Since: time.Now(), Boot: "bench"})
	if err != nil {
		return err
	}
	if err := w.taken(cfg); err != nil {
		return err
	}
	w.note("hold taken")
	if err := w.come(ctx, "came back while held"); err != nil {
		return err
	}
	if _, err := (devlink.Fence{}).Set(ctx, append(append([]int{}, w.pf...), w.reps...), true); err != nil {
		return err
	}
	w.start = time.Now()
	if cfg, err = w.db.Unhold(ctx); err != nil {
		return err
	}
	if err := w.taken(cfg); err != nil {
		return err
	}
	w.note("release taken")
	if err := w.come(ctx, "came back without purge"); err != nil {
		return err
	}
	return w.back(ctx)
}
