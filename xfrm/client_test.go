// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var equal = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b Key) bool { return a.Fingerprint() == b.Fingerprint() }),
}

func TestDoAddsListsAndDeletes(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	ctx := context.Background()
	in, out := testSA(t, 0x1001, In), testSA(t, 0x1002, Out)
	policy := testPolicy(2, Out)
	add := []Op{{Kind: AddSA, SA: in}, {Kind: AddSA, SA: out}, {Kind: AddPolicy, Policy: policy}}
	for i, err := range c.Do(ctx, add) {
		if err != nil {
			t.Errorf("%s: %v", add[i], err)
		}
	}
	states, err := c.SAs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]SA{dumped(in), dumped(out)}, states, equal); diff != "" {
		t.Error(diff)
	}
	policies, err := c.Policies(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Policy{*policy}, policies, equal); diff != "" {
		t.Error(diff)
	}
	got, err := c.SA(ctx, out.ID())
	if err != nil || got != dumped(out) {
		t.Errorf("SA: %+v, %v", got, err)
	}
	for _, op := range add {
		if err := c.Do(ctx, []Op{op.reverse()})[0]; err != nil {
			t.Error(err)
		}
	}
	if len(k.states)+len(k.policies) != 0 {
		t.Errorf("left: %d states, %d policies", len(k.states), len(k.policies))
	}
	if _, err := c.SA(ctx, out.ID()); !errors.Is(err, unix.ESRCH) {
		t.Errorf("SA of a deleted state: %v", err)
	}
}

// dumped returns s as a dump gives it.
func dumped(s *SA) SA {
	d := *s
	d.KeyPrint, d.Key = s.Key.Fingerprint(), Key{}
	return d
}

func TestDoMapsResultsToOps(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	var ops []Op
	for i := range 3 * batchMax {
		ops = append(ops, Op{Kind: AddPolicy, Policy: testPolicy(byte(i), Out)})
	}
	ops[5].Policy = testPolicy(4, Out) // there already
	ops[6].Policy = &Policy{Sel: ops[6].Policy.Sel, Exotic: true}
	ops[batchMax+1].Policy = nil
	for i, err := range c.Do(context.Background(), ops) {
		switch i {
		case 5:
			if !errors.Is(err, unix.EEXIST) || CodeOf(err) != CodeExists {
				t.Errorf("op %d: %v", i, err)
			}
		case 6, batchMax + 1:
			if CodeOf(err) != CodeInvalid {
				t.Errorf("op %d: %v", i, err)
			}
		default:
			if err != nil {
				t.Errorf("op %d: %v", i, err)
			}
		}
	}
	if want := 2 * 3; k.datagram != want {
		t.Errorf("%d datagrams, want %d: one for each batch and one for its read-back", k.datagram, want)
	}
}

func TestDoGivesTheDriversWords(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	k.refuse[1] = ack{errno: unix.EBUSY, text: "simnic: Device failed to offload this state"}
	err := c.Do(context.Background(), []Op{{Kind: AddSA, SA: testSA(t, 0x1234, Out)}})[0]
	want := "add SA 10.0.0.1 > 10.0.0.2 spi 0x1234 reqid 17: device or resource busy: simnic: Device failed to offload this state"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if !errors.Is(err, unix.EBUSY) {
		t.Error("errors.Is finds no EBUSY")
	}
}

func TestDoFindsWhatIsNotOffloaded(t *testing.T) {
	ops := []Op{
		{Kind: AddSA, SA: testSA(t, 0x1001, In)},
		{Kind: AddPolicy, Policy: testPolicy(2, Out)},
		{Kind: UpdatePolicy, Policy: testPolicy(3, Out)},
	}
	for _, test := range []struct {
		name string
		k    func(*kernel)
		want string
		left int
	}{
		{"software", func(k *kernel) { k.software = true }, "the kernel took it but did not offload it", 0},
		{"other device", func(k *kernel) { k.moveTo = 9 }, "the kernel took it but did not offload it: it is on interface 9, not 7", 0},
		{"stuck", func(k *kernel) { k.software, k.stuck = true, true }, "and it cannot be deleted: delete ", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKernel()
			test.k(k)
			for i, err := range newTestClient(t, k).Do(context.Background(), ops) {
				var op *OpError
				if !errors.As(err, &op) || !op.NotOffloaded || CodeOf(err) != CodeNotOffloaded {
					t.Errorf("op %d: %v", i, err)
				} else if !strings.Contains(err.Error(), test.want) {
					t.Errorf("op %d: %v, want %q", i, err, test.want)
				}
			}
			if n := len(k.states) + len(k.policies); n != test.left {
				t.Errorf("%d objects are left, want %d", n, test.left)
			}
		})
	}
}

func TestDoReadsOnlyBackWhatIsToBeOffloaded(t *testing.T) {
	k := newKernel()
	sa := testSA(t, 0x1001, Out)
	sa.Offload = Offload{}
	for _, err := range newTestClient(t, k).Do(context.Background(), []Op{{Kind: AddSA, SA: sa}, {Kind: DeleteSA, SA: sa}}) {
		if err != nil {
			t.Error(err)
		}
	}
	if len(k.requests) != 2 {
		t.Errorf("requests: %v", k.requests)
	}
}

func TestDoSettlesLostAnswers(t *testing.T) {
	sa, policy := testSA(t, 0x1001, In), testPolicy(2, Out)
	ops := []Op{
		{Kind: AddSA, SA: sa}, {Kind: AddPolicy, Policy: policy}, {Kind: UpdatePolicy, Policy: policy},
		{Kind: DeleteSA, SA: sa}, {Kind: DeletePolicy, Policy: policy},
	}
	for _, breakIt := range []func(*kernel){
		func(k *kernel) { k.lose = len(ops) },
		func(k *kernel) { k.mute = len(ops) },
	} {
		k := newKernel()
		c := newTestClient(t, k)
		for _, op := range ops {
			breakIt(k)
			k.lose, k.mute = min(k.lose, 1), min(k.mute, 1)
			if err := c.Do(context.Background(), []Op{op})[0]; err != nil {
				t.Errorf("%s: %v", op, err)
			}
		}
		if n := len(k.states) + len(k.policies); n != 0 {
			t.Errorf("%d objects are left", n)
		}
	}
}

func TestDoDoesNotTakeAStrangersObjectForItsOwn(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	theirs := testSA(t, 0x1001, In)
	theirs.Key = testKey(t, 1)
	if err := c.Do(context.Background(), []Op{{Kind: AddSA, SA: theirs}})[0]; err != nil {
		t.Fatal(err)
	}
	k.lose = 1
	err := c.Do(context.Background(), []Op{{Kind: AddSA, SA: testSA(t, 0x1001, In)}})[0]
	if CodeOf(err) != CodeNoAnswer { // not EEXIST, which would be a plain no
		t.Errorf("add SA with a lost answer: %v", err)
	}
}

func TestDoGivesUpOnAMuteKernel(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	k.mute = 100
	err := c.Do(context.Background(), []Op{{Kind: AddPolicy, Policy: testPolicy(2, Out)}})[0]
	if CodeOf(err) != CodeNoAnswer {
		t.Errorf("%v", err)
	}
	k.mute, k.sendErr = 0, unix.EMSGSIZE
	if err := c.Do(context.Background(), []Op{{Kind: AddPolicy, Policy: testPolicy(2, Out)}})[0]; !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("%v", err)
	}
}

func TestDoHonoursTheContext(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := c.Do(ctx, []Op{{Kind: AddPolicy, Policy: testPolicy(2, Out)}})[0]
	if !errors.Is(err, context.Canceled) || CodeOf(err) != CodeCanceled || k.datagram != 0 {
		t.Errorf("%v after %d datagrams", err, k.datagram)
	}
	if _, err := c.SAs(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("SAs: %v", err)
	}
	if len(k.queue) != 0 {
		t.Error("a dump was left half read")
	}
}

func TestRequestsCarryThePortID(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	c.Do(context.Background(), []Op{{Kind: AddPolicy, Policy: testPolicy(2, Out)}})
	for _, r := range k.requests {
		if r.port != testPort {
			t.Errorf("request %#x has port id %d", r.typ, r.port)
		}
	}
	if c.PortID() != testPort {
		t.Error(c.PortID())
	}
}

func TestNoKeyStaysInABuffer(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	room := cap(c.x.out)
	var ops []Op
	for i := range batchMax {
		ops = append(ops, Op{Kind: AddSA, SA: testSA(t, 0x1000+uint32(i), In)})
	}
	c.Do(context.Background(), ops)
	if _, err := c.SAs(context.Background()); err != nil {
		t.Fatal(err)
	}
	key := slices.Repeat([]byte{0xA5}, 4)
	for name, b := range map[string][]byte{"send": c.x.out[:cap(c.x.out)], "receive": c.x.in} {
		if strings.Contains(string(b), string(key)) {
			t.Errorf("the %s buffer holds a key", name)
		}
	}
	if cap(c.x.out) != room {
		t.Errorf("the send buffer grew from %d to %d bytes and left keys behind", room, cap(c.x.out))
	}
}

func TestOldKernelsGetNoDirection(t *testing.T) {
	for _, old := range []bool{false, true} {
		k := newKernel()
		k.oldKernel = old
		c := newTestClient(t, k)
		out := testSA(t, 0x1001, Out)
		if err := c.Do(context.Background(), []Op{{Kind: AddSA, SA: out}})[0]; err != nil {
			t.Fatal(err)
		}
		if sent := slices.Contains(k.requests[0].attrs, attrSADir); sent == old {
			t.Errorf("old kernel %v: XFRMA_SA_DIR sent %v", old, sent)
		}
		got, err := c.SA(context.Background(), out.ID())
		if err != nil || got != dumped(out) {
			t.Errorf("old kernel %v: %+v, %v", old, got, err)
		}
	}
}

func TestDumpIsBegunAnewWhenInterrupted(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	c.Do(context.Background(), []Op{{Kind: AddPolicy, Policy: testPolicy(2, Out)}})
	for _, breakIt := range []func(){func() { k.torn = 1 }, func() { k.overrun = true }} {
		k.datagram = 0
		breakIt()
		list, err := c.Policies(context.Background())
		if err != nil || len(list) != 1 || k.datagram != 2 {
			t.Errorf("%v, %v after %d dumps", list, err, k.datagram)
		}
	}
	k.torn = 1000
	if _, err := c.Policies(context.Background()); !errors.Is(err, errInterrupted) {
		t.Errorf("always interrupted: %v", err)
	}
}

func TestPoliciesLeavesOutThoseOfSockets(t *testing.T) {
	k := newKernel()
	c := newTestClient(t, k)
	p := testPolicy(2, Out)
	c.Do(context.Background(), []Op{{Kind: AddPolicy, Policy: p}})
	k.policies[policyName{Out, p.Sel}][polDir] = 4 // XFRM_POLICY_MAX + XFRM_POLICY_OUT
	if list, err := c.Policies(context.Background()); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestNewClientWithoutPermission(t *testing.T) {
	k := newKernel()
	k.refuse[1] = ack{errno: unix.EPERM}
	if _, err := newClient(k, 1); CodeOf(err) != CodePermission {
		t.Errorf("%v", err)
	}
}
