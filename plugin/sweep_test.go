// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
)

// TestFaultSweep plays every scenario once for each of its operations and each
// way in which that operation can fail, and for a crash before and after it.
// Whatever happens, no operation of the daemon lets out clear text, no outbound
// key is installed twice, and when the fault is over the host comes to where it
// would have been, but for pairs that say with a code why they are blocked.
func TestFaultSweep(t *testing.T) {
	for _, s := range stories(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			want, labels := undisturbed(t, s)
			for _, label := range sample(labels) {
				for _, f := range faultsOf(label) {
					if err := disturbed(s, f, want); err != nil {
						t.Errorf("%s: %v", name(f), err)
					}
				}
			}
		})
	}
}

// sample leaves out most operations of a scenario in which many are alike; with
// -short, as under the race detector, it leaves few.
func sample(labels []string) []string {
	most := 40
	if testing.Short() {
		most = 3
	}
	if len(labels) <= most {
		return labels
	}
	var some []string
	for i := 0; i < len(labels); i += 1 + len(labels)/min(10, most) {
		some = append(some, labels[i])
	}
	return some
}

// faultsOf returns the faults that strike one operation.
func faultsOf(label string) []fakenic.Fault {
	fs := []fakenic.Fault{
		{Label: label, Effect: fakenic.Before}, {Label: label, Effect: fakenic.After},
		{Label: label, Effect: fakenic.Lose}, {Label: label, Effect: fakenic.Lose, Times: fakenic.Always},
	}
	if strings.Contains(label, " offload packet ") && !strings.Contains(label, " update ") {
		fs = append(fs, fakenic.Fault{Label: label, Effect: fakenic.NotOffload}, fakenic.Fault{Label: label, Effect: fakenic.NotOffload, Times: fakenic.Always})
	}
	for _, e := range []unix.Errno{unix.EBUSY, unix.EINVAL, unix.EEXIST, unix.ENOMEM, unix.ENODEV, unix.EPERM} {
		text := ""
		if e == unix.EINVAL {
			text = "mlx5_core: Device failed to offload this state"
		}
		for _, times := range []int{1, 2, fakenic.Always} {
			fs = append(fs, fakenic.Fault{Label: label, Errno: e, Text: text, Times: times})
		}
	}
	return fs
}

func name(f fakenic.Fault) string {
	what := map[fakenic.Effect]string{fakenic.Refuse: f.Errno.Error(), fakenic.NotOffload: "not offloaded", fakenic.Lose: "answer lost",
		fakenic.Before: "crash before", fakenic.After: "crash after"}[f.Effect]
	return fmt.Sprintf("%s (%d times) at %q", what, f.Times, f.Label)
}

// undisturbed plays a story and returns where it ends, and the labels of the
// daemon's operations.
func undisturbed(t *testing.T, s story) (end []string, labels []string) {
	t.Helper()
	r := standardRig()
	r.watch()
	if err := errors.Join(s.play(r), r.calmDown(), r.sound()); err != nil {
		t.Fatal(err)
	}
	return r.end(), slices.Compact(slices.Sorted(slices.Values(r.Faults.Seen())))
}

// disturbed plays a story under a fault, ends the fault and compares. A fault
// that stays for the whole story may lead elsewhere, since what comes later in
// the story finds another host, but not to a host that keeps silent about it.
func disturbed(s story, f fakenic.Fault, want []string) error {
	r := standardRig()
	r.watch()
	r.Faults.Set(f)
	if err := s.play(r); err != nil && f.Times != fakenic.Always && !r.excused(f) {
		return err
	}
	r.Faults.Set()
	if err := errors.Join(r.calmDown(), r.sound()); err != nil {
		return err
	}
	diff := cmp.Diff(want, r.end())
	switch {
	case diff == "" || r.excused(f):
		return nil
	case f.Times != fakenic.Always:
		return fmt.Errorf("the host ends elsewhere (-want +got):\n%s", diff)
	}
	return r.explained()
}

// explained checks that everything is encrypted, in clear text by the operator's
// wish, or has a reason.
func (r *rig) explained() error {
	for _, p := range r.d.Last().Pairs {
		if p.State != "encrypted" && p.State != "clear" && p.Problem == nil {
			return fmt.Errorf("%s > %s is %s and nobody says why", p.Local, p.Remote, p.State)
		}
	}
	return nil
}

// calmDown lets all back-offs and retirements pass.
func (r *rig) calmDown() error {
	for range 4 {
		r.Clock.Advance(6 * time.Minute)
		if err := errors.Join(r.settle(), r.IKE.Answer(context.Background()), r.settle()); err != nil {
			return err
		}
	}
	return nil
}

// sound checks what must hold wherever a story has come to.
func (r *rig) sound() error {
	if len(r.w.breaches) > 0 {
		return fmt.Errorf("%d breaches, the first: %s", len(r.w.breaches), r.w.breaches[0])
	}
	if twice := r.twice(); len(twice) > 0 {
		return fmt.Errorf("outbound keys installed twice: %v", twice)
	}
	return r.wolf()
}

// end says where a story has come to: what stands in the kernel, and what the
// daemon thinks of it, but for the number of flows, which it counts only when it
// has to, and for what leaked on the way.
func (r *rig) end() []string {
	lines := strings.Split(negotiatedSPI.ReplaceAllString(flowCount.ReplaceAllString(r.statusText(), ""), "SPI"), "\n")
	dump := r.dump()
	for i := range dump {
		dump[i] = negotiatedSPI.ReplaceAllString(dump[i], "SPI")
	}
	slices.Sort(dump)
	return append(dump, slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "  leaked ") })...)
}

// wolf tells whether more is said to have leaked than the NICs sent in clear text.
func (r *rig) wolf() error {
	var said, sent uint64
	for _, p := range r.d.Last().Pairs {
		if p.Leak != nil {
			said += p.Leak.Out
		}
	}
	for _, p := range r.PFs() {
		sent += uint64(p.Counters().TXClearVXLAN)
	}
	if said > sent {
		return fmt.Errorf("%d packets are said to have leaked, the NICs sent %d in clear text", said, sent)
	}
	return nil
}

// negotiatedSPI matches the SPIs of SAs that IKE made: how many there were before
// is all that they tell.
var negotiatedSPI = regexp.MustCompile(`0xc0000[0-9a-f]{3}`)

var flowCount = regexp.MustCompile(` flows=\d+`)

// excused tells whether the fault may have cost a pair its key: one that was
// written into the ledger and may have reached the kernel is never used again. A
// refusal costs nothing.
func (r *rig) excused(f fakenic.Fault) bool { return f.Effect != fakenic.Refuse && r.w.spent }
