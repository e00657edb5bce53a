// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"time"

	"ovs-ipsec-offload/ovsdb"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/pki"
)

// credentials gives the core what ports that IKE keys, and this host, prove
// themselves with.
type credentials struct{ *pki.Keeper }

// newCredentials reads the files of this machine, and calls changed when one of
// those that ports name is another.
func newCredentials(changed func()) credentials {
	return credentials{pki.NewKeeper(pki.NewStore(pki.Host{}, os.Geteuid()), time.Now, changed)}
}

// Auths returns the credentials by port, and notes on the host's own files.
func (c credentials) Auths(snap *ovsdb.Snapshot) (map[string]plugin.AuthResult, []plugin.Problem) {
	results, notes := c.Keeper.Auths(snap)
	auths := make(map[string]plugin.AuthResult, len(results))
	for port, r := range results {
		a := plugin.AuthResult{Auth: r.Auth, Notes: problemsOf(r.Notes)}
		if r.Problem != nil {
			a.Problem = &plugin.Problem{Code: r.Problem.Code, Text: r.Problem.Text}
		}
		auths[port] = a
	}
	return auths, problemsOf(notes)
}

func problemsOf(notes []pki.Problem) []plugin.Problem {
	var ps []plugin.Problem
	for _, n := range notes {
		ps = append(ps, plugin.Problem{Code: n.Code, Text: n.Text})
	}
	return ps
}

// followFiles asks for a round when a certificate, key or secret of a port
// changes. A round looks at the files itself, so without it nothing is lost but
// time.
func (h *host) followFiles(ctx context.Context) {
	for ctx.Err() == nil {
		if err := h.credentials.Run(ctx); err != nil {
			h.log.Debug("certificates are looked at in every round only", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryKeys):
		}
	}
}
