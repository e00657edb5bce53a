// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIPRoute(t *testing.T) {
	v6 := testSA(t, 0xc0ffee01, In)
	v6.Src, v6.Dst = netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::1")
	v6.Mode = Tunnel
	software := testSA(t, 0x1001, Out)
	software.Offload, software.ESN = Offload{}, false
	crypto := testSA(t, 0x1002, Out)
	crypto.Offload.Packet = false
	guard := &Policy{
		Dir: In, Priority: 400001, Action: Block,
		Sel: Selector{
			Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("10.0.0.1/32"),
			Proto: 17, DstPort: 4789,
		},
		Offload: Offload{Ifindex: testIfindex, Packet: true},
	}
	bypass := &Policy{
		Dir: Out, Priority: 50,
		Sel: Selector{
			Src: netip.MustParsePrefix("fd00::1/128"), Dst: netip.MustParsePrefix("fd00::2/128"),
			Proto: 6, SrcPort: 179,
		},
	}
	wild := &Policy{
		Dir: Fwd, Sel: Selector{Src: netip.MustParsePrefix("::/0"), Dst: netip.MustParsePrefix("::/0"), Proto: 47},
		Tmpl: &Template{Reqid: 3},
	}
	var b strings.Builder
	name := func(ifindex int) string { return fmt.Sprintf("pf%d", ifindex) }
	for _, op := range []Op{
		{Kind: AddSA, SA: testSA(t, 0x1234, Out)},
		{Kind: AddSA, SA: testSA(t, 0x1235, In)},
		{Kind: AddSA, SA: v6},
		{Kind: AddSA, SA: software},
		{Kind: AddSA, SA: crypto},
		{Kind: DeleteSA, SA: testSA(t, 0x1234, Out)},
		{Kind: DeleteSA, SA: &SA{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x1234}},
		{Kind: AddPolicy, Policy: testPolicy(2, Out)},
		{Kind: UpdatePolicy, Policy: testPolicy(2, In)},
		{Kind: AddPolicy, Policy: guard},
		{Kind: AddPolicy, Policy: bypass},
		{Kind: AddPolicy, Policy: wild},
		{Kind: DeletePolicy, Policy: guard},
		{Kind: AddSA},
		{Policy: guard},
	} {
		fmt.Fprintln(&b, op.IP(name))
		switch {
		case op.Kind == AddSA && op.SA != nil:
			fmt.Fprintf(&b, "\t%s\n", op.SA.AppendShown(nil, name))
		case op.Kind == AddPolicy:
			fmt.Fprintf(&b, "\t%s\n", op.Policy.AppendShown(nil, name))
		}
	}
	golden(t, "iproute.txt", b.String())
}

// golden compares got with testdata/name; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func TestOpStringNamesDevicesByNumber(t *testing.T) {
	if s := (Op{Kind: AddPolicy, Policy: testPolicy(2, Out)}).String(); !strings.Contains(s, " dev if7 ") {
		t.Error(s)
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	sa := testSA(t, 0x1001, Out)
	op := Op{Kind: AddSA, SA: sa}
	err := &OpError{Kind: op.Kind, Subject: op.subject()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{op, sa, *sa, sa.Key, err, dumped(sa)} {
			text := strings.ToLower(fmt.Sprintf(verb, v))
			for _, part := range []string{"a5a5", "165 165", "0xa5, 0xa5"} {
				if strings.Contains(text, part) {
					t.Errorf("%s of a %T: %s", verb, v, text)
				}
			}
		}
	}
}
