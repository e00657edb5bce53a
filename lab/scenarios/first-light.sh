#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The main job: two hypervisors, the daemon on both, hw-offload left to it, ports
# added with ovs-vsctl while it runs. IPv4 and IPv6 underlay, transport mode.
# SECONDS_EACH (default 5) is the time of each iperf3 run.
. "$(dirname "$0")/lib.sh"
each=${SECONDS_EACH:-5}

run() { # family local1 local2
	say "$1 underlay"
	lab-wire start
	tunnel 1 vx0 "$2" "$3" key=100 ipsec_keys="$key"
	tunnel 2 vx0 "$3" "$2" key=100 ipsec_keys="$key"
	for n in 1 2; do
		steer $n vx0
		eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted
		eventually 10 "hv$n: hw-offload set by the daemon" sh -c "[ \"\$(lab-hv $n ovs-vsctl get Open_vSwitch . other_config:hw-offload)\" = '\"true\"' ]"
	done
	eventually 10 "overlay answers" reaches 1 192.168.7.2
	must "20 of 20 echo requests answered" reaches 20 192.168.7.2
	for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
	lab-vm 2 iperf3 -s -D -I /tmp/iperf.pid >/dev/null
	lab-vm 1 iperf3 -c 192.168.7.2 -t "$each" -M 1300 | grep -E 'sender|receiver'
	lab-vm 1 iperf3 -c 192.168.7.2 -t "$each" -M 1300 -R | grep -E 'sender|receiver'
	kill "$(tr -d '\0' </tmp/iperf.pid)"
	for n in 1 2; do nic_over $n offloaded_flows 0 || fail "hv$n: no flow in hardware after iperf3"; done
	lab-wire stop | tee /tmp/wire
	must "the wire saw ESP" test "$(awk '$1 == "esp" { print $2 }' /tmp/wire)" -gt 100
	must "the wire saw no clear-text VXLAN" grep -qx 'udp4789 0' /tmp/wire
	no_clear
	for n in 1 2; do
		must "hv$n: no outbound SA was missing" nic_is $n tx_sa_miss 0
		lab-hv $n ovs-ipsec-offload status
	done
}

daemon_start 1
daemon_start 2
key=$(keys 1 2)
run IPv4 10.0.0.1 10.0.0.2

say "remove the IPv4 tunnels"
for n in 1 2; do lab-hv $n ovs-vsctl del-port br-int vx0; done
key=$(keys 1 2)
run IPv6 fd00::1 fd00::2

say "tables stood before the first offloaded flow"
for n in 1 2; do
	lab-nic $n log
	lab-nic $n log | awk '/table made/ { tables++ } /first flow offloaded/ { if (tables < 2) bad = 1; exit } END { exit bad || tables < 2 }' ||
		fail "hv$n: a flow was offloaded before both tables stood"
done
note "both hypervisors: yes"
