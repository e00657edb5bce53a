#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What keeps a NIC from IPsec is named, each by its own code, and only the ports
# concerned are refused; when it is mended the tunnel comes up by itself.
. "$(dirname "$0")/lib.sh"
said() { lab-hv 1 ovs-ipsec-offload status --json | jq -e --arg c "$1" 'any(.. | .code?; . == $c)' >/dev/null; }
text() { note "$(lab-hv 1 ovs-ipsec-offload status --json | jq -r --arg c "$1" '[.. | objects | select(.code? == $c) | .text][0]')"; }
named() { eventually 10 "named: $1" said "$1"; text "$1"; }

say "filters on the PF itself, before the tables"
lab-hv 1 tc qdisc add dev pf0 ingress
lab-hv 1 tc filter add dev pf0 ingress protocol ip flower dst_ip 198.51.100.1 action drop
eventually 5 "the filter is in hardware" nic_is 1 offloaded_flows 1
daemon_start 1 --audit-every 1s
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 ipsec_keys="$key"
named NIC_BUSY_FILTER
lab-hv 1 tc qdisc del dev pf0 ingress
eventually 15 "mended: vx0 is encrypted" state_is 1 vx0 encrypted
# Until then the NIC took no guard, and the status said "unprotected".
before=$(nic 1 tx_clear_vxlan)
note "clear-text VXLAN packets while nothing could be put into the NIC: $before"

say "a VTEP on an internal port"
lab-hv 1 ovs-vsctl add-port br-int vtep0 -- set interface vtep0 type=internal
eventually 5 "the port is there" lab-hv 1 ip link show vtep0
lab-hv 1 ip addr add 10.9.0.1/24 dev vtep0
tunnel 1 vx9 10.9.0.1 10.9.0.2 key=9 ipsec_keys="$(keys 1 2)"
eventually 10 "vx9: NIC_ADDR_OVS" problem_is 1 vx9 NIC_ADDR_OVS
text NIC_ADDR_OVS
must "vx0 is still encrypted" state_is 1 vx0 encrypted
lab-hv 1 ovs-vsctl del-port br-int vx9 -- del-port br-int vtep0

say "the PF as a slave, and as a port of the bridge"
lab-hv 1 ip link add br9 type bridge
lab-hv 1 ip link set pf0 master br9
eventually 10 "vx0: NIC_PF_SLAVE" problem_is 1 vx0 NIC_PF_SLAVE
text NIC_PF_SLAVE
lab-hv 1 ip link set pf0 nomaster
eventually 10 "mended: vx0 is encrypted" state_is 1 vx0 encrypted
lab-hv 1 ovs-vsctl --no-wait add-port br-int pf0
eventually 10 "vx0: NIC_PF_OVS" problem_is 1 vx0 NIC_PF_OVS
text NIC_PF_OVS
lab-hv 1 ovs-vsctl del-port br-int pf0
eventually 10 "mended: vx0 is encrypted" state_is 1 vx0 encrypted
must "no packet in clear since the guards stand" nic_is 1 tx_clear_vxlan "$before"

say "a VF with IPsec of its own"
daemon_stop 1
lab-hv 1 ovs-vsctl del-port br-int vx0
lab-hv 1 ip xfrm policy flush
lab-hv 1 ip xfrm state flush
eventually 10 "nothing of ours is in the NIC" nic_is 1 tx_tables 0
vf=$(lab-hv 1 devlink port | awk '/pcivf/ { sub(/:$/, "", $1); print $1; exit }')
lab-hv 1 devlink port function set "$vf" ipsec_packet enable
daemon_start 1 --audit-every 1s
tunnel 1 vx0 10.0.0.1 10.0.0.2 ipsec_keys="$(keys 1 2)"
named NIC_VF_IPSEC
lab-hv 1 devlink port function set "$vf" ipsec_packet disable
eventually 15 "mended: vx0 is encrypted" state_is 1 vx0 encrypted
