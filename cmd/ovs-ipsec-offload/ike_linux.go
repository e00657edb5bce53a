// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"

	"ovs-ipsec-offload/plugin/config"
	"ovs-ipsec-offload/plugin/ike"
)

// newIKE returns the way to this host's IKE daemon, and nil when the operator wants
// none. changed asks for a round.
func newIKE(cfg config.Config, log *slog.Logger, changed func()) *ike.Runner {
	if cfg.IKE == config.IKENone {
		return nil
	}
	return ike.New(ike.Config{Socket: cfg.IKESocket, Log: log.With("part", "ike"), Changed: changed, Options: ike.Options{RekeyTime: cfg.IKERekey}})
}
