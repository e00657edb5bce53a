// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/plugin"
	"ovs-ipsec-offload/xfrm"
)

// updownLimit bounds the time that pluto waits for us: it does nothing else meanwhile.
const updownLimit = 3 * time.Second

// newUpdown returns the verb that pluto runs when a child SA comes or goes.
//
// When an SA goes that it wants back, pluto puts a trap into the NIC in the place of
// its policy, and a trap lets clear text out there. It runs this before, and again once
// the policy of the next SA stands; in between a block lies over both.
func newUpdown() *cobra.Command {
	cmd := &cobra.Command{Use: "updown", Short: "For libreswan to run, as leftupdown", Hidden: true, Args: noArgs}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b, verb, err := barFrom(os.Getenv)
		if err != nil || b == nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), updownLimit)
		defer cancel()
		return bar(ctx, b, verb)
	}
	return cmd
}

// barFrom returns the block for the connection that pluto's environment names, nil if
// it is not one by which this host sends, and what to do with it.
func barFrom(env func(string) string) (*xfrm.Policy, string, error) {
	verb, _, _ := strings.Cut(env("PLUTO_VERB"), "-")
	port, err := strconv.ParseUint(env("PLUTO_PEER_PORT"), 10, 16)
	if err != nil || port == 0 || verb != "down" && verb != "up" && verb != "unroute" {
		return nil, verb, nil
	}
	peer, err := netip.ParseAddr(env("PLUTO_PEER"))
	if err != nil {
		return nil, verb, fmt.Errorf("read PLUTO_PEER: %w", err)
	}
	dev, err := net.InterfaceByName(env("PLUTO_INTERFACE"))
	if err != nil {
		return nil, verb, fmt.Errorf("read PLUTO_INTERFACE: %w", err)
	}
	p := plugin.Bar(peer, uint16(port))
	p.Offload = xfrm.Offload{Ifindex: dev.Index, Packet: true}
	return &p, verb, nil
}

// bar puts the block there before an SA goes, and takes it away when the next one is
// there, or none is to come.
func bar(ctx context.Context, p *xfrm.Policy, verb string) error {
	client, err := xfrm.New()
	if err != nil {
		return err
	}
	op := xfrm.Op{Kind: xfrm.UpdatePolicy, Policy: p}
	if verb != "down" {
		op.Kind = xfrm.DeletePolicy
	}
	err = cmp.Or(client.Do(ctx, []xfrm.Op{op})...)
	if op.Kind == xfrm.DeletePolicy && errors.Is(err, syscall.ENOENT) {
		err = nil
	}
	return errors.Join(err, client.Close())
}
