// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"
)

func TestErrnoIn(t *testing.T) {
	for text, want := range map[string]string{
		"RTNETLINK answers: Invalid argument\n":                "EINVAL",
		"Error: x.\nkernel answers: Operation not supported\n": "EOPNOTSUPP",
		"RTNETLINK answers: Device or resource busy":           "EBUSY",
		"Error: simnic: Device failed to offload this state.":  "",
		"RTNETLINK answers: What no error says":                "",
	} {
		if have := errnoIn(text); have != want {
			t.Errorf("%q: have %q, want %q", text, have, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	k := &Kernel{handle: "platform/simnic.3"}
	for line, want := range map[string]string{
		"ip xfrm state flush":                                 "ip -n rules-hv xfrm state flush",
		"tc filter del dev rep0 ingress pref 1":               "tc -n rules-hv filter del dev rep0 ingress pref 1",
		"devlink dev eswitch set pf0 mode legacy":             "devlink -N rules-hv dev eswitch set platform/simnic.3 mode legacy",
		"devlink port function set pf0/1 ipsec_packet enable": "devlink -N rules-hv port function set platform/simnic.3/1 ipsec_packet enable",
		"ethtool -K pf0 hw-tc-offload off":                    "ip netns exec rules-hv ethtool -K pf0 hw-tc-offload off",
	} {
		c, err := ParseCommand(line)
		if err != nil {
			t.Fatal(err)
		}
		if have := strings.Join(k.commandLine(c), " "); have != want {
			t.Errorf("have %s\nwant %s", have, want)
		}
	}
}

func TestToolErrorHidesKeys(t *testing.T) {
	_, err := tool(t.Context(), "false", "key", "0x20f01f80a26f633d85617465686c32552c92c42f", "spi", "0x201")
	if err == nil || strings.Contains(err.Error(), "20f01f80") || !strings.Contains(err.Error(), "0x201") {
		t.Errorf("have %v", err)
	}
}
