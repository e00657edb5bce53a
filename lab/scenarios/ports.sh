#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Another UDP port than 4789, and several VNIs to one peer.
. "$(dirname "$0")/lib.sh"
daemon_start 1
daemon_start 2
say "UDP port 4790, two VNIs to one peer"
key=$(keys 1 2)
for vni in 100 200; do
	tunnel 1 vx$vni 10.0.0.1 10.0.0.2 key=$vni dst_port=4790 ipsec_keys="$key"
	tunnel 2 vx$vni 10.0.0.2 10.0.0.1 key=$vni dst_port=4790 ipsec_keys="$key"
done
for n in 1 2; do eventually 20 "hv$n: vx100 encrypted" state_is $n vx100 encrypted; done
must "one pair for both ports" test "$(lab-hv 1 ovs-ipsec-offload status --json | jq '[.pairs[] | select(.state == "encrypted")] | length')" = 1
for vni in 100 200; do
	for n in 1 2; do steer $n vx$vni; done
	eventually 10 "overlay answers over vx$vni" reaches 5 192.168.7.2
done
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
no_clear
