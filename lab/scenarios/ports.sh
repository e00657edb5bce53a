#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Other UDP ports than 4789, and several VNIs to one peer.
. "$(dirname "$0")/lib.sh"
for n in 1 2; do daemon_start $n --guard-ports 4789,4790; done
# tunnels UDP VNI...: to and fro, with one key set.
tunnels() {
	udp=$1; shift
	key=$(keys 1 2)
	for vni; do
		tunnel 1 "vx$vni" 10.0.0.1 10.0.0.2 key="$vni" dst_port="$udp" ipsec_keys="$key"
		tunnel 2 "vx$vni" 10.0.0.2 10.0.0.1 key="$vni" dst_port="$udp" ipsec_keys="$key"
	done
	for n in 1 2; do eventually 20 "hv$n: vx$1 encrypted" state_is $n "vx$1" encrypted; done
}
# pairs N: how many are encrypted.
pairs() { must "$1 encrypted" test "$(lab-hv 1 ovs-ipsec-offload status --json | jq '[.pairs[] | select(.state == "encrypted")] | length')" = "$1"; }
passes() {
	for n in 1 2; do steer $n "vx$1"; done
	eventually 10 "overlay answers over vx$1" reaches 5 192.168.7.2
}

say "UDP port 4790, whose guards stand from the start; two VNIs to one peer; the VM sends meanwhile"
# To all ports, as soon as they are there, but from none to another: two tunnels between
# the same bridges are a loop.
for n in 1 2; do lab-hv $n ovs-ofctl del-flows br-int; lab-hv $n ovs-ofctl add-flow br-int in_port=rep0,actions=all; done
# The VM need not ask for the address, or it would send only that question.
lab-vm 1 ip neigh replace 192.168.7.2 lladdr "$(lab-vm 2 cat /sys/class/net/vf0/address)" dev vf0 nud permanent
lab-vm 1 ping -q -i 0.01 192.168.7.2 >/dev/null 2>&1 &
pinger=$!
tunnels 4790 100 200
pairs 1
for vni in 100 200; do passes $vni; done
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
no_clear
kill $pinger

# Open vSwitch may send before a guard stands that nobody could foresee, so here the
# bridges send nothing before.
say "UDP port 4791, which nobody has named"
for n in 1 2; do lab-hv $n ovs-ofctl del-flows br-int; done
tunnels 4791 300
pairs 2
passes 300
no_clear
