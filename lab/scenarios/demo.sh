#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# not in make test: make demo
# The main job, shown: two hypervisors become an encrypted, offloaded overlay.
# What an operator would type is printed before it runs.
. "$(dirname "$0")/lib.sh"
run() { printf '$ %s\n' "$*"; "$@"; }

say "Two hypervisors, hv1 and hv2, each with a NIC (pf0), Open vSwitch and a VM; no IPsec, hw-offload unset"
run lab-hv 1 ovs-vsctl show
run lab-hv 1 ip -br address show pf0

say "1. A key set for the pair, one file per hypervisor"
printf '$ ovs-ipsec-offload keys new --pair hv1,hv2 --out keys\n'
key=$(keys 1 2)
note "key set $key is installed in /etc/ovs-ipsec-offload/keys.d on both"

say "2. What the daemon would do on this host, then the daemon on both. Guards stand before any tunnel exists"
run lab-hv 1 ovs-ipsec-offload plan
for n in 1 2; do printf '$ lab-hv %s ovs-ipsec-offload run &\n' $n; daemon_start $n; done
run lab-hv 1 ip xfrm policy

say "3. The tunnel, as ever but for ipsec_keys; then there is nothing left to do"
lab-wire start
for n in 1 2; do
	run lab-hv $n ovs-vsctl --no-wait add-port br-int vx0 -- set interface vx0 type=vxlan \
		options:local_ip=10.0.0.$n options:remote_ip=10.0.0.$((3 - n)) options:key=100 options:ipsec_keys="$key"
done
for n in 1 2; do steer $n vx0; eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
run lab-hv 1 ovs-vsctl get Open_vSwitch . other_config
run lab-hv 1 ovs-ipsec-offload plan

say "4. Traffic between the VMs"
eventually 10 "overlay answers" reaches 1 192.168.7.2
run lab-vm 1 ping -c 5 -i 0.2 192.168.7.2
lab-vm 2 iperf3 -s -D -I /tmp/iperf.pid >/dev/null
run lab-vm 1 iperf3 -c 192.168.7.2 -t "${SECONDS_EACH:-10}" -M 1300
kill "$(tr -d '\0' </tmp/iperf.pid)"

say "5. What stood first: the NIC's own event log"
for n in 1 2; do echo "hv$n:"; lab-nic $n log; done

say "6. Status"
for n in 1 2; do run lab-hv $n ovs-ipsec-offload status; done

say "7. The wire, by protocol"
lab-wire stop | tee /tmp/wire

say "8. The NICs' own counters"
for n in 1 2; do echo "hv$n: $(lab-nic $n | grep -E '^(tx_tables|rx_tables|offloaded_flows|tx_esp|rx_esp|tx_clear_vxlan|rx_clear_vxlan|tx_blocked|rx_blocked|tx_sa_miss) ' | tr '\n' ' ')"; done
grep -qx 'udp4789 0' /tmp/wire || fail "clear-text VXLAN on the wire"
# The flows themselves may have idled out since.
for n in 1 2; do nic_over $n fdb_encap 0 || fail "hv$n: no packet was put into the tunnel in hardware"; done
no_clear
say "Done: ESP and nothing else between the VTEPs, flows in hardware, tables there first, clear-text counter 0"
