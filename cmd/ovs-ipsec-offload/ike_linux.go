// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"ovs-ipsec-offload/devlink"
	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/plugin/config"
	"ovs-ipsec-offload/plugin/ike"
	"ovs-ipsec-offload/plugin/ike/pluto"
)

// ikeRunner keeps an IKE daemon at what the core wants.
type ikeRunner interface {
	plugin.IKE
	Run(ctx context.Context) error
}

// newIKE returns the way to this host's IKE daemon, and nil when the operator wants
// none. changed asks for a round.
func newIKE(cfg config.Config, kernel devlink.Kernel, log *slog.Logger, changed func()) ikeRunner {
	log, options := log.With("part", "ike"), ike.Options{RekeyTime: cfg.IKERekey}
	switch chooseIKE(cfg, exists) {
	case config.IKENone:
		return nil
	case config.IKELibreswan:
		self, err := os.Executable()
		if err != nil {
			self = "/usr/local/sbin/ovs-ipsec-offload"
		}
		return pluto.New(pluto.Config{Hands: pluto.Command{Dir: filepath.Join(cfg.RunDir, "pluto")}, Log: log, Changed: changed, Options: options,
			Updown: self + " updown", SoftRX: !kernel.AtLeast(6, 15, 0)})
	}
	return ike.New(ike.Config{Socket: cfg.IKESocket, Log: log, Changed: changed, Options: options})
}

// charonPrograms are strongSwan's daemons that have VICI, as the distributions place
// them.
var charonPrograms = [...]string{"/usr/sbin/charon-systemd", "/usr/libexec/strongswan/charon-systemd", "/usr/libexec/ipsec/charon", "/usr/lib/ipsec/charon"}

// chooseIKE resolves ike: auto. What runs comes before what is installed, and strongSwan
// before libreswan, which is also what a host is told of that has neither.
func chooseIKE(cfg config.Config, exists func(string) bool) config.IKE {
	if cfg.IKE != config.IKEAuto {
		return cfg.IKE
	}
	if exists(cfg.IKESocket) {
		return config.IKEStrongSwan
	}
	if exists(pluto.Socket) {
		return config.IKELibreswan
	}
	for _, path := range charonPrograms {
		if exists(path) {
			return config.IKEStrongSwan
		}
	}
	if exists(pluto.Whack) {
		return config.IKELibreswan
	}
	return config.IKEStrongSwan
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
