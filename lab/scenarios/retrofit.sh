#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A host that runs for long already, its flows in hardware and in clear text, gets
# the daemon: flows leave the hardware, the tables come, flows come back. Once the
# tunnel stays plain meanwhile, and not one packet is lost; once it asks for IPsec
# already, and not one packet is in clear text afterwards. FLOWS says how many
# flows there are.
. "$(dirname "$0")/lib.sh"
flows=${FLOWS:-200}
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

# host_as_it_is: hw-offload=true, a plain tunnel, many flows.
host_as_it_is() {
	tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100
	tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100
	for n in 1 2; do
		steer $n vx0
		# A match on every port makes every connection a flow of its own.
		case $n in 1) in=rep0 out=vx0 ;; 2) in=vx0 out=rep0 ;; esac
		seq 20000 $((19999 + flows)) | sed "s/.*/priority=40000,in_port=$in,udp,udp_src=&,actions=output:$out/" | lab-hv $n ovs-ofctl add-flows br-int -
	done
	eventually 20 "overlay answers" reaches 1 192.168.7.2
	many
	eventually 30 "hv1: $flows flows in hardware" nic_over 1 offloaded_flows $((flows - 1))
	must "they are in clear text" nic_over 1 tx_clear_vxlan 0
}
many() {
	lab-vm 1 python3 -c '
import socket, sys
for i in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 20000 + i))
    for _ in range(3): s.sendto(b"x" * 100, ("192.168.7.2", 9))' "$flows"
}
asks() { lab-hv "$1" ovs-ipsec-offload status --json | jq -e '.problems[] | select(.code == "FLOWS_FIRST")'; }
repair_both() {
	lab-vm 1 ping -q -i 0.01 192.168.7.2 >/tmp/ping 2>&1 & ping=$!
	# The other end cannot receive before it is done as well: both at once.
	lab-hv 2 ovs-ipsec-offload repair --yes >/tmp/repair2 2>&1 & other=$!
	lab-hv 1 ovs-ipsec-offload repair --yes
	wait $other || { cat /tmp/repair2; fail "repair on hv2"; }
}
as_it_was() {
	for n in 1 2; do
		must "hv$n: flow-limit is as it was" sh -c "! lab-hv $n ovs-vsctl get Open_vSwitch . other_config | grep -q flow-limit"
		must "hv$n: hw-tc-offload is as it was" sh -c "lab-hv $n ethtool -k pf0 | grep -q 'hw-tc-offload: on' && lab-hv $n ethtool -k rep0 | grep -q 'hw-tc-offload: on'"
	done
	lab-hv 1 ovs-ipsec-offload status | grep -A1 '^gate'
}
answered() {
	kill -INT $ping; wait $ping || true
	sent=$(awk '/transmitted/ { print $1 }' /tmp/ping) got=$(awk '/transmitted/ { print $4 }' /tmp/ping)
	note "$got of $sent echo requests answered over all of it"
}
for n in 1 2; do lab-hv $n ovs-vsctl --no-wait set Open_vSwitch . other_config:hw-offload=true other_config:max-idle=60000; done

say "a host as it is, with $flows flows and traffic; the daemon asks first"
host_as_it_is
for n in 1 2; do daemon_start $n; done
for n in 1 2; do eventually 20 "hv$n: FLOWS_FIRST" asks $n; done

say "the operator says so, and the tunnel stays plain"
repair_both
many
eventually 20 "hv1: $flows flows in hardware again" nic_over 1 offloaded_flows $((flows - 1))
answered
must "none was lost" test "$got" -ge $((sent - 1)) # the last one may be on its way
as_it_was

say "and now it asks for IPsec"
key=$(keys 1 2)
for n in 1 2; do lab-hv $n ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"; done
for n in 1 2; do eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
before=$(nic 1 tx_clear_vxlan)
many
must "hv1: not one packet in clear since" nic_is 1 tx_clear_vxlan "$before"
must "hv1: the flows never left the hardware" nic_over 1 offloaded_flows $((flows - 1))

say "the same host once more, its tunnel asking for IPsec from the start"
for n in 1 2; do daemon_stop $n; lab-ovs $n cold; lab-hv $n rm -rf /var/lib/ovs-ipsec-offload/intent.json; lab-ovs $n start; lab-hv $n ovs-vsctl del-port br-int vx0; done
host_as_it_is
for n in 1 2; do daemon_start $n; done
key=$(keys 1 2)
for n in 1 2; do lab-hv $n ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"; done
for n in 1 2; do eventually 20 "hv$n: FLOWS_FIRST" asks $n; done
repair_both
before=$(nic 1 tx_clear_vxlan) before2=$(nic 2 tx_clear_vxlan)
for n in 1 2; do eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
many
eventually 20 "hv1: $flows flows in hardware again" nic_over 1 offloaded_flows $((flows - 1))
must "hv1: not one packet in clear since" nic_is 1 tx_clear_vxlan "$before"
must "hv2: not one packet in clear since" nic_is 2 tx_clear_vxlan "$before2"
answered
as_it_was
