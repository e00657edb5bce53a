#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Cold boot with ports in the database: database, daemon, ovs-vswitchd, in the
# order in which systemd starts them.
. "$(dirname "$0")/lib.sh"

say "a host with tunnels in its database goes down"
key=$(keys 1 2)
for n in 1 2; do
	lab-hv $n ovs-vsctl set Open_vSwitch . other_config:hw-offload=true
	lab-ovs $n cold
	lab-ovs $n start-db
done
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"

say "it comes up: the daemon first"
lab-wire start
for n in 1 2; do
	daemon_start $n
	eventually 20 "hv$n: vx0 encrypted before ovs-vswitchd runs" state_is $n vx0 encrypted
	must "hv$n: tables stand" nic_is $n tx_tables 1
	must "hv$n: nothing is offloaded yet" nic_is $n offloaded_flows 0
done

say "then ovs-vswitchd, with traffic waiting"
lab-vm 1 ping -q -i 0.1 -c 150 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
for n in 1 2; do lab-ovs $n start-switch; steer $n vx0; done
eventually 20 "overlay answers" reaches 1 192.168.7.2
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
kill -INT $ping; wait $ping || true
lab-wire stop | tee /tmp/wire
must "the wire saw no clear-text VXLAN" grep -qx 'udp4789 0' /tmp/wire
no_clear
for n in 1 2; do
	lab-nic $n log
	lab-nic $n log | awk '/table made/ { tables++ } /first flow offloaded/ { if (tables < 2) bad = 1; exit } END { exit bad || tables < 2 }' ||
		fail "hv$n: a flow was offloaded before both tables stood"
done
note "tables before flows: yes"

say "a host where flows are offloaded already is left alone, with a reason"
# Traffic keeps the flows in hardware: idle ones go after ten seconds.
lab-vm 1 ping -q -i 0.2 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
for n in 1 2; do daemon_stop $n; done
for n in 1 2; do lab-hv $n ip xfrm policy flush; lab-hv $n ip xfrm state flush; done
# Nothing is known of this boot: as if the daemon had never run.
lab-hv 1 rm /var/lib/ovs-ipsec-offload/intent.json
eventually 10 "hv1: tables gone" nic_is 1 tx_tables 0
eventually 10 "hv1: flows are still in hardware" nic_over 1 offloaded_flows 0
daemon_start 1
must "code FLOWS_FIRST" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.problems[] | select(.code == \"FLOWS_FIRST\")' >/dev/null"
must "nothing was changed" test "$(lab-hv 1 ip xfrm policy | wc -l)" = 0
kill -INT $ping; wait $ping || true
