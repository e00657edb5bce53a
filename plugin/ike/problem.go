// SPDX-License-Identifier: Apache-2.0

package ike

import "fmt"

// The codes of a Problem. They are stable: scripts may depend on them.
const (
	// CodeDown: the IKE daemon does not answer on its socket.
	CodeDown = "IKE_DOWN"
	// CodeStuck: the IKE daemon is there and does not answer. strongSwan repeats a
	// request that the kernel refuses with EBUSY without end, and holds what its
	// other threads need (netlink_send in kernel_netlink_shared.c).
	CodeStuck = "IKE_STUCK"
	// CodeOld: the IKE daemon cannot have packet offload (strongSwan before 5.9.10).
	CodeOld = "IKE_OLD"
	// CodeRefused: the IKE daemon does not take a configuration, key or certificate.
	CodeRefused = "IKE_REFUSED"
	// CodeAuth: one end did not accept who the other says it is.
	CodeAuth = "IKE_AUTH_FAILED"
	// CodeNoAnswer: the peer does not answer.
	CodeNoAnswer = "IKE_NO_ANSWER"
	// CodeNoProposal: the ends have no cipher in common.
	CodeNoProposal = "IKE_NO_PROPOSAL"
	// CodeTS: the peer does not want this traffic encrypted.
	CodeTS = "IKE_TS"
	// CodeInstall: keys were agreed on, but the kernel or the NIC did not take the SA.
	CodeInstall = "IKE_INSTALL_REFUSED"
	// CodeFailed: the IKE daemon failed for a reason that has no code of its own.
	CodeFailed = "IKE_FAILED"
	// CodeNoESN: the peer's SAs have 32-bit sequence numbers, which wrap in
	// minutes at line rate; traffic flows.
	CodeNoESN = "IKE_NO_ESN"
)

// Problem is something that an operator can do something about.
type Problem struct {
	Code string // one of the constants
	Text string // what is wrong and what to do; never holds a secret
}

// Error returns the text without the code.
func (p *Problem) Error() string { return p.Text }

func problem(code, format string, args ...any) *Problem {
	return &Problem{Code: code, Text: fmt.Sprintf(format, args...)}
}

func (p *Problem) equal(q *Problem) bool {
	return p == q || p != nil && q != nil && *p == *q
}
