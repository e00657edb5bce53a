#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --file examples/systemd:systemd
# A boot with a broken daemon: tunnels in the database, hw-offload=true, and
# instead of the program "false". What the units run is run here by hand, for
# systemd does not run in the lab. Blocked, not clear; whole again with the daemon.
. "$(dirname "$0")/boot.sh"

say "before: vx0 is encrypted, vx9 plain"
key=$(keys 1 2)
lab-ovs 1 stop
lab-ovs 1 start-db
lab-hv 1 ovs-vsctl --no-wait set Open_vSwitch . other_config:hw-offload=true
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 1 vx9 10.0.0.1 10.0.0.9 key=109
daemon_start 1; daemon_start 2
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"
eventually 20 "vx0 is encrypted" state_is 1 vx0 encrypted
eventually 5 "the bypass of vx9 is saved" lab-hv 1 grep -q '10.0.0.9/32.*action allow' $state/guards.batch
must "saved for root only" test "$(lab-hv 1 stat -c %a $state/intent.json $state/guards.batch | tr '\n' ' ')" = "600 600 "
lab-hv 1 cat $state/intent.json $state/guards.batch
daemon_stop 1

say "it boots with a broken program, and vx9 asks for IPsec by now"
lab-wire start
reboot
lab-hv 1 ovs-vsctl --no-wait set interface vx9 options:ipsec_keys=none
for verb in guard run; do lab-hv 1 false $verb || note "$verb: exit $?"; done
boot_gate 0
must "hw-offload is still true" test "$(hw_offload)" = '"true"'
must "both guards of each family stand" test "$(policies | grep -c 'action block')" = 4
must "in the NIC" test "$(policies | grep -c 'mode packet')" = 4
policies | grep -q 'action allow' && fail "the bypass of vx9 was put up"
network
lab-ovs 1 start-switch
steer 1 vx0; steer 2 vx0
lab-vm 1 ping -q -c 10 -i 0.1 -W 1 192.168.7.2 >/tmp/ping 2>&1 || true
must "nothing comes through" grep -q ' 0 received' /tmp/ping
must "a flow is in hardware" nic_over 1 offloaded_flows 0
must "where the guard drops its packets" nic_over 1 tx_blocked 0
no_clear

say "the daemon is mended"
daemon_start 1
key=$(keys 1 2)
for n in 1 2; do lab-hv $n ovs-vsctl set interface vx0 options:ipsec_keys="$key"; done
for n in 1 2; do eventually 20 "hv$n: vx0 is encrypted" state_is $n vx0 encrypted; done
eventually 10 "overlay answers" reaches 2 192.168.7.2
lab-wire stop | tee /tmp/wire
must "the wire saw no clear-text VXLAN" grep -qx 'udp4789 0' /tmp/wire
no_clear
