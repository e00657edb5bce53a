// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ovs-ipsec-offload/lab/fakenic"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// TestStatusJSON pins what `status --json` prints.
func TestStatusJSON(t *testing.T) {
	r := standardRig()
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"), plain("plain", "10.0.0.1", "10.0.0.3"), secure("vx1", "10.0.0.1", "10.0.0.4", "missing"))
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
	k, _ := r.OVS.Tunnel("vx0")
	for range 3 {
		r.SendVF(k)
	}
	st, err := r.d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "status.json"), append(got, '\n'))
	if bytes.Contains(got, []byte("null")) {
		t.Error("null in the JSON: lists are empty, not absent")
	}
}

// beside is a kernel that a round changes while a status reads it.
type beside struct {
	plugin.Kernel
	round func()
}

func (k beside) SAs(ctx context.Context) ([]xfrm.SA, error) {
	sas, err := k.Kernel.SAs(ctx)
	k.round()
	return sas, err
}

// A status that was asked for while a round installs a key saw the kernel without it, and
// the ledger with it: that is not a key that was used before.
func TestStatusBesideARound(t *testing.T) {
	r := standardRig()
	r.Keys.Make("ab")
	set, err := r.Keys.Lookup("ab")
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.Kernel = beside{r.cfg.Kernel, sync.OnceFunc(func() {
		if err := r.Ledger.Reserve(t.Context(), []plugin.LedgerEntry{{Print: set.OutPrint, Name: "ab"}}); err != nil {
			t.Error(err)
		}
	})}
	r.restart()
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
	st, err := r.d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p := st.Pairs[0].Problem; p != nil && p.Code == "KEY_USED" {
		t.Error(p)
	}
	if st, err = r.d.Status(t.Context()); err != nil || st.Pairs[0].Problem == nil || st.Pairs[0].Problem.Code != "KEY_USED" {
		t.Errorf("a key that is used without an SA: problem %v, %v", st.Pairs[0].Problem, err)
	}
}

// TestStatusWhileRoomIsTried asks for the status when the time has come to try
// whether a full card takes one more, and no round has: the reason still holds.
func TestStatusWhileRoomIsTried(t *testing.T) {
	r := standardRig()
	r.PF("pf0").Set(func(k *fakenic.Knobs) { k.MaxRXSA = 1 })
	for i, set := range []string{"ab", "cd"} {
		r.Keys.Make(set)
		r.OVS.SetPort(secure("vx"+set, "10.0.0.1", fmt.Sprintf("10.0.0.%d", 2+i), set))
	}
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{0, time.Hour} {
		r.Clock.Advance(wait)
		st, err := r.d.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p := st.Pairs[1].Problem; p == nil || p.Code != "NIC_SA_LIMIT" {
			t.Errorf("after %v: problem %v, want NIC_SA_LIMIT", wait, p)
		}
	}
}

// TestStatusRemembersNothing asks for the status when an SA stands that nobody wants.
// For how long it is unwanted is for rounds to say: the first one has just seen it.
func TestStatusRemembersNothing(t *testing.T) {
	r := standardRig()
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
	r.OVS.DelPort("vx0")
	r.restart()
	if _, err := r.d.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Clock.Advance(24 * time.Hour)
	if err := r.settle(); err != nil {
		t.Fatal(err)
	}
	if sas, err := r.SAs(t.Context()); err != nil || len(sas) != 2 {
		t.Errorf("%d SAs stand, want both until they were unwanted for a while: %v", len(sas), err)
	}
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestNoKeyAnywhere looks for key bytes in all that the daemon says.
func TestNoKeyAnywhere(t *testing.T) {
	var log bytes.Buffer
	r := standardRig()
	r.cfg.Log = textLog(&log)
	r.restart()
	r.Keys.Make("ab")
	r.OVS.SetPort(secure("vx0", "10.0.0.1", "10.0.0.2", "ab"))
	r.Faults.Set(fakenic.Fault{Nth: 5, Errno: unix.EINVAL, Times: 1})
	steps, _, _, err := r.d.Preview(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.calmDown(); err != nil {
		t.Fatal(err)
	}
	status, err := json.Marshal(r.d.Last())
	if err != nil {
		t.Fatal(err)
	}
	said := slices.Concat(log.Bytes(), status, []byte(r.statusText()))
	for _, s := range steps {
		said = append(said, s...)
	}
	for _, w := range r.OVS.Reports() {
		for _, v := range w.Values {
			said = append(said, v...)
		}
	}
	in, out, err := r.Keys.Material("ab")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range [][]byte{in.AppendTo(nil), out.AppendTo(nil)} {
		for _, form := range forms(k) {
			if bytes.Contains(said, form) {
				t.Errorf("a key was told, as %q", form)
			}
		}
	}
}

// forms returns how key bytes could be told: raw, in hexadecimal, as numbers.
func forms(k []byte) [][]byte {
	return [][]byte{k[:8], []byte(hex.EncodeToString(k[:8])), []byte(strings.ToUpper(hex.EncodeToString(k[:8]))), []byte(fmt.Sprint(k[:8])), []byte(base64.StdEncoding.EncodeToString(k[:9]))}
}

func textLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A pair waits for its guard, and then for SAs: the round that gives it to the IKE daemon
// says so, though that has not taken it yet.
func TestPairWaitsForItsGuard(t *testing.T) {
	r := standardRig()
	r.OVS.SetPort(byIKE(1))
	for _, want := range []string{"IKE_WAITS", "IKE_CONNECTING"} {
		st, err := r.d.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p := st.Pairs[0].Problem; p == nil || p.Code != want {
			t.Errorf("problem %v, want %s", p, want)
		}
		r.round()
	}
}
