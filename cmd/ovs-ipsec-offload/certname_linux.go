// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"sync"

	"ovs-ipsec-offload/plugin/pki"
)

// certNames are the common names of certificates in files, read again when a file
// has changed.
type certNames struct {
	mu    sync.Mutex
	store *pki.Store
}

func newCertNames() *certNames { return &certNames{store: pki.NewStore(pki.Host{}, os.Geteuid())} }

// of returns the common name of the first certificate in a file, "" if there is none.
func (c *certNames) of(path string) string {
	if path == "" {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ref := pki.Ref{Role: pki.RemoteCert, Path: path}
	if certs := c.store.Read([]pki.Ref{ref})[ref].Certs; len(certs) > 0 {
		return certs[0].CN
	}
	return ""
}
