#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --param no_policy_priority=1
# Cards without policy priorities: refused, until the operator says otherwise;
# then encrypted, and what is not stopped is measured.
. "$(dirname "$0")/lib.sh"
clears() { nic 1 tx_clear_vxlan; }
# knock PORT SECONDS: vm1 sends to its peer by way of PORT, which nobody answers.
knock() { steer 1 "$1"; lab-vm 1 ping -q -c $(($2 * 10)) -i 0.1 -W 1 192.168.7.2 >/dev/null || true; }

# vm1 must not have to ask for vm2's address first: nobody would answer.
mac=$(lab-vm 2 cat /sys/class/net/vf0/address)
lab-vm 1 ip neigh replace 192.168.7.2 lladdr "$mac" dev vf0 nud permanent
daemon_start 1 --retire-after 1s
daemon_start 2 --retire-after 1s

say "refused"
for n in 1 2; do eventually 10 "hv$n: tables stand all the same" nic_is $n tx_tables 1; done
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"
for n in 1 2; do eventually 10 "hv$n: vx0 blocked" state_is $n vx0 blocked; done
must "vx0: NIC_NO_PRIORITY" problem_is 1 vx0 NIC_NO_PRIORITY
note "$(lab-hv 1 ovs-ipsec-offload status --json | jq -r '.ports[0].problems[0].text')"
knock vx0 1
must "the gate is shut" sh -c "! lab-hv 1 ovs-vsctl get Open_vSwitch . other_config:hw-offload"
no_clear

say "refused, and the operator opens the gate"
lab-hv 1 ovs-vsctl set Open_vSwitch . other_config:hw-offload=true
lab-hv 1 ovs-appctl revalidator/purge
knock vx0 1
eventually 10 "flows in hardware" offloads 1
knock vx0 1
must "they are blocked in the NIC" nic_over 1 tx_blocked 0
no_clear

say "allowed"
for n in 1 2; do
	lab-hv $n sh -c "mkdir -p /etc/ovs-ipsec-offload; echo 'unguarded: allow' >/etc/ovs-ipsec-offload/config.yaml"
	kill -HUP "$(cat /tmp/daemon$n.pid)"
	eventually 10 "hv$n: vx0 encrypted" state_is $n vx0 encrypted
	steer $n vx0
done
must "the status keeps saying what is missing" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.state == \"degraded\" and (.problems | any(.code == \"NIC_UNGUARDED\"))' >/dev/null"
eventually 10 "overlay answers" reaches 1 192.168.7.2
must "10 of 10 echo requests answered" reaches 10 192.168.7.2
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
must "ESP came in" nic_over 1 rx_esp 0
must "ESP went out" nic_over 1 tx_esp 0
no_clear

say "windows"
# The peers of the next tunnels are not there, but the way to them is known.
wire=$(lab-hv 2 cat /sys/class/net/pf0/address)
for a in 10.0.0.12 10.0.0.13; do lab-hv 1 ip neigh replace $a lladdr "$wire" dev pf0 nud permanent; done
before=$(clears)
tunnel 1 vx1 10.0.0.1 10.0.0.12 key=101 ipsec_keys="$(keys 1 2)"
knock vx1 2
eventually 5 "vx1 is encrypted" state_is 1 vx1 encrypted
note "a tunnel is added and used at once: $(($(clears) - before)) packets in clear"
kill -STOP "$(cat /tmp/daemon1.pid)"
before=$(clears)
tunnel 1 vx2 10.0.0.1 10.0.0.13 key=102 ipsec_keys="$(keys 1 2)"
knock vx2 2
note "the same while the daemon stands still, for 2 s at 10 a second: $(($(clears) - before)) packets in clear"
kill -CONT "$(cat /tmp/daemon1.pid)"
eventually 10 "vx2 is encrypted" state_is 1 vx2 encrypted
before=$(clears)
knock vx2 1
must "from then on nothing is in clear" test "$(clears)" = "$before"
must "vx0 never was" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.pairs[0].state == \"encrypted\"' >/dev/null"

say "nothing that holds the tables goes"
for n in 1 2; do lab-hv $n ovs-vsctl del-port br-int vx0; done
lab-hv 1 ovs-vsctl del-port br-int vx1 -- del-port br-int vx2
eventually 30 "SAs and blocks are retired" nic_is 1 tx_refs 1
for n in 1 2; do must "hv$n: no table went" sh -c "! lab-nic $n log | grep -q 'table gone'"; done
