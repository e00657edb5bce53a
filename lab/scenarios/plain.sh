#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --hypervisors 3
# A tunnel without ipsec options beside encrypted ones: it works, and only it is
# in clear text. Three hypervisors: hv1-hv2 encrypted, hv1-hv3 plain.
. "$(dirname "$0")/lib.sh"
daemon_start 1
daemon_start 2
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"
for n in 1 2; do eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
lab-vm 1 ip addr add 192.168.8.1/24 dev vf0
lab-vm 3 ip addr add 192.168.8.3/24 dev vf0
tunnel 1 plain 10.0.0.1 10.0.0.3 key=300
tunnel 3 plain 10.0.0.3 10.0.0.1 key=300
for n in 1 3; do lab-hv $n ovs-vsctl wait-until interface plain ofport!=-1; done
eventually 20 "hv1: plain is clear by wish" state_is 1 plain clear
lab-hv 1 ovs-ofctl del-flows br-int
lab-hv 1 ovs-ofctl add-flow br-int in_port=rep0,actions=output:vx0,output:plain
lab-hv 1 ovs-ofctl add-flow br-int in_port=vx0,actions=output:rep0
lab-hv 1 ovs-ofctl add-flow br-int in_port=plain,actions=output:rep0
steer 2 vx0
steer 3 plain
eventually 10 "encrypted overlay answers" reaches 5 192.168.7.2
eventually 10 "plain overlay answers" reaches 5 192.168.8.3
say "each to its own: hv1's clear packets all go to hv3"
must "hv1 sent clear text (by wish)" nic_over 1 tx_clear_vxlan 0
must "hv2 received none" nic_is 2 rx_clear_vxlan 0
must "hv2 sent none" nic_is 2 tx_clear_vxlan 0
must "hv3 received it" nic_over 3 rx_clear_vxlan 0

say "plain becomes encrypted: no clear packet after that"
lab-hv 1 ovs-vsctl --no-wait set interface plain options:ipsec_keys=none-yet
eventually 20 "hv1: plain is blocked" state_is 1 plain blocked
sent=$(nic 1 tx_clear_vxlan)
lab-vm 1 ping -q -c 5 -i 0.2 -W 1 192.168.8.3 || true
must "clear text stands still at $sent" nic_is 1 tx_clear_vxlan "$sent"
must "encrypted overlay answers" reaches 5 192.168.7.2
