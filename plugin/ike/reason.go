// SPDX-License-Identifier: Apache-2.0

package ike

import "strings"

// words are charon's, as its log has them at level 1, with what they mean. The
// first that fits counts.
var words = []struct{ part, code, text string }{
	{"MAC mismatched", CodeAuth, "the peer has another pre-shared key: give both ends the same psk"},
	{"no shared key found", CodeAuth, "the daemon has no pre-shared key for these identities"},
	{"no private key found", CodeAuth, "the daemon has no private key for this end's certificate"},
	{"public key found for", CodeAuth, "the peer's certificate is not the one expected, or nothing trusted has signed it"},
	// Of the very name that is expected, but with another key: charon says no more then.
	{"is not trusted", CodeAuth, "the peer's certificate is not the one expected, or nothing trusted has signed it"},
	{"constraint check failed", CodeAuth, "the peer's certificate or name is not the one expected"},
	{"constraint requires", CodeAuth, "the peer's certificate or name is not the one expected"},
	{"subject certificate invalid", CodeAuth, "the peer's certificate is not valid now: check its dates and the clock"},
	{"' unacceptable", CodeAuth, "the peer's name or kind of authentication is not the one expected"},
	{"AUTHENTICATION_FAILED notify", CodeAuth, "the peer does not accept this end's psk, certificate or name: see the log of the peer's daemon"},
	{"NO_PROPOSAL_CHOSEN notify", CodeNoProposal, "the peer has no such tunnel to this end, or accepts none of the ciphers offered, or could not install its SA: see its status and the log of its daemon"},
	{"no acceptable proposal found", CodeNoProposal, "the peer offers no cipher that this end accepts: AES-GCM with 16 bytes of ICV is needed, and ESN unless it runs ovs-monitor-ipsec"},
	{"TS_UNACCEPTABLE notify", CodeTS, "the peer does not want this traffic encrypted: check the UDP port and the addresses at both ends"},
	{"no acceptable traffic selectors", CodeTS, "the peer wants other traffic encrypted: check the UDP port and the addresses at both ends"},
	{"HW offload is not supported", CodeInstall, "the device that has the local address takes no IPsec offload"},
	{"failed to configure HW offload", CodeInstall, "the device that has the local address takes no IPsec offload"},
	{"received netlink error", CodeInstall, "the kernel or the NIC refuses the SA or its policy"},
	{"unable to install", CodeInstall, "the kernel or the NIC refuses the SA or its policy"},
	{"giving up after", CodeNoAnswer, noAnswer},
	{"peer not responding", CodeNoAnswer, noAnswer},
}

const noAnswer = "the peer's IKE daemon does not answer: is it running, and do UDP 500 and 4500 get through?"

// readLog returns the problem that a line of charon's log tells, nil for most.
// The line itself is added: charon has no secrets in its log at level 1.
func readLog(line string) *Problem {
	for _, w := range words {
		if strings.Contains(line, w.part) {
			return problem(w.code, "%s (%s)", w.text, strings.TrimSpace(line))
		}
	}
	return nil
}

// failed tells whether a line of charon's log says that an attempt is over, for a reason
// of which there may be no words here.
func failed(line string) bool {
	return strings.Contains(line, "failed to establish CHILD_SA") || strings.Contains(line, "notify error")
}

// alerts are the types of charon's alert event (6.0.3 and later) that say why a
// Conn fails.
var alerts = map[string]string{
	"local-auth-failed":           CodeAuth,
	"peer-auth-failed":            CodeAuth,
	"authorization-failed":        CodeAuth,
	"cert-expired":                CodeAuth,
	"cert-revoked":                CodeAuth,
	"cert-no-issuer":              CodeAuth,
	"cert-untrusted-root":         CodeAuth,
	"proposal-mismatch-ike":       CodeNoProposal,
	"proposal-mismatch-child":     CodeNoProposal,
	"ts-mismatch":                 CodeTS,
	"install-child-sa-failed":     CodeInstall,
	"install-child-policy-failed": CodeInstall,
	"peer-init-unreachable":       CodeNoAnswer,
	"retransmit-send-timeout":     CodeNoAnswer,
}

// readAlert returns the problem that an alert tells, nil for some.
func readAlert(typ string) *Problem {
	if code, ok := alerts[typ]; ok {
		return problem(code, "%s: see the log of the IKE daemons at both ends", strings.ReplaceAll(typ, "-", " "))
	}
	return nil
}
