// SPDX-License-Identifier: Apache-2.0

package pluto

import (
	"cmp"
	"log/slog"
	"slices"

	"ovs-ipsec-offload/plugin/ike"
)

// byAge orders children by name and age, the oldest first.
func byAge(a, b ike.Child) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), a.Installed.Compare(b.Installed), cmp.Compare(a.SPIIn, b.SPIIn))
}

// news logs what now says and was does not, and tells whether there is anything.
func news(log *slog.Logger, was, now ike.State) bool {
	any := len(was.Conns) != len(now.Conns)
	if was.Daemon != now.Daemon || !same(was.Problem, now.Problem) {
		any = true
		if now.Problem != nil {
			log.Warn("no work with the IKE daemon", "code", now.Problem.Code, "reason", now.Problem.Text)
		} else {
			log.Info("the IKE daemon answers", "daemon", now.Daemon)
		}
	}
	for name, s := range now.Conns {
		before := was.Conns[name]
		if before.Phase == s.Phase && same(before.Problem, s.Problem) {
			any = any || !slices.EqualFunc(before.Children, s.Children, sameChild)
			continue
		}
		any = true
		if s.Problem != nil {
			log.Warn("tunnel", "conn", name, "phase", s.Phase, "code", s.Problem.Code, "reason", s.Problem.Text)
		} else {
			log.Info("tunnel", "conn", name, "phase", s.Phase)
		}
	}
	return any
}

// sameChild compares all but the time until a rekey, which passes by itself.
func sameChild(a, b ike.Child) bool {
	a.RekeyIn, b.RekeyIn = 0, 0
	return a == b
}

func same(p, q *ike.Problem) bool { return p == q || p != nil && q != nil && *p == *q }
