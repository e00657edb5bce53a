// SPDX-License-Identifier: Apache-2.0

package xfrm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEvents(t *testing.T) {
	sa, policy := testSA(t, 0x1001, In), testPolicy(2, Out)
	saBody := func() []byte {
		return body(t, appendNewSA(nil, header{}, sa, features{saDir: true}))
	}
	policyBody := body(t, appendPolicy(nil, header{}, policy))

	delSA := make([]byte, saidLen)
	delSA, v := appendAttr(delSA, attrSA, saLen)
	copy(v, saBody())
	delSA = append(delSA, saBody()[saLen:]...)
	delPolicy := make([]byte, polidLen)
	delPolicy, v = appendAttr(delPolicy, attrPolicy, polLen)
	copy(v, policyBody)
	delPolicy = append(delPolicy, policyBody[polLen:]...)

	expire := append(append(saBody()[:saLen:saLen], 1, 0, 0, 0, 0, 0, 0, 0), saBody()[saLen:]...)
	polExpire := append(append(policyBody[:polLen:polLen], 0, 0, 0, 0, 0, 0, 0, 0), policyBody[polLen:]...)

	acquire := make([]byte, acqLen)
	putAddr(acquire[acqDst:], policy.Tmpl.Dst)
	putAddr(acquire[acqSrc:], policy.Tmpl.Src)
	putSelector(acquire[acqSel:], policy.Sel)
	copy(acquire[acqPolicy:], policyBody[:polLen])
	acquire = append(acquire, policyBody[polLen:]...)
	wanted := SA{Src: policy.Tmpl.Src, Dst: policy.Tmpl.Dst, Reqid: policy.Tmpl.Reqid, Dir: Out}

	for _, test := range []struct {
		typ  uint16
		body []byte
		want Event
	}{
		{msgNewSA, saBody(), Event{Kind: SAAdded, SA: dumped(sa)}},
		{msgUpdSA, saBody(), Event{Kind: SAUpdated, SA: dumped(sa)}},
		{msgDelSA, delSA, Event{Kind: SADeleted, SA: dumped(sa)}},
		{msgFlushSA, []byte{0}, Event{Kind: SAsFlushed}},
		{msgExpire, expire, Event{Kind: SAExpired, SA: dumped(sa), Hard: true}},
		{msgNewPolicy, policyBody, Event{Kind: PolicyAdded, Policy: *policy}},
		{msgUpdPolicy, policyBody, Event{Kind: PolicyUpdated, Policy: *policy}},
		{msgDelPolicy, delPolicy, Event{Kind: PolicyDeleted, Policy: *policy}},
		{msgFlushPolicy, nil, Event{Kind: PoliciesFlushed}},
		{msgPolExpire, polExpire, Event{Kind: PolicyExpired, Policy: *policy}},
		{msgAcquire, acquire, Event{Kind: Acquire, SA: wanted, Policy: *policy}},
	} {
		test.want.PortID = 99
		got, ok := decodeEvent(header{typ: test.typ, port: 99}, test.body)
		if diff := cmp.Diff(test.want, got, equal); !ok || diff != "" {
			t.Errorf("%s: known %v: %s", test.want.Kind, ok, diff)
		}
	}
}

func TestEventsOfNoInterest(t *testing.T) {
	socketPolicy := body(t, appendPolicy(nil, header{}, testPolicy(2, Out)))
	socketPolicy[polDir] = 4 // XFRM_POLICY_MAX + XFRM_POLICY_OUT
	for typ, b := range map[uint16][]byte{
		msgNewPolicy: socketPolicy,
		msgNewSA:     make([]byte, saLen-1),
		msgExpire:    make([]byte, saLen),
		msgPolExpire: make([]byte, polLen),
		msgAcquire:   make([]byte, polLen),
		msgDelSA:     make([]byte, saidLen-1),
		msgDelPolicy: make([]byte, polidLen-1),
		0x27:         make([]byte, 3), // GETDEFAULT
	} {
		if e, ok := decodeEvent(header{typ: typ}, b); ok {
			t.Errorf("message %#x: %+v", typ, e)
		}
	}
}

func TestEventKindNames(t *testing.T) {
	if s := SADeleted.String(); s != "SA deleted" {
		t.Error(s)
	}
	if s := EventKind(99).String(); s != "event 99" {
		t.Error(s)
	}
}
