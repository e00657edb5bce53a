#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --file examples/systemd:systemd
# A boot whose NIC comes late: down and without addresses, as on Debian before
# networking.service; then not in switchdev mode at all. Guards stand in it as
# soon as they can, else in the host's stack, and then nothing is offloaded.
. "$(dirname "$0")/boot.sh"

say "before: vx0 asks for IPsec"
key=$(keys 1 2)
lab-ovs 1 stop
lab-ovs 1 start-db
lab-hv 1 ovs-vsctl --no-wait set Open_vSwitch . other_config:hw-offload=true
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 1 vx9 10.0.0.1 10.0.0.9 key=109
daemon_start 1
eventually 20 "vx0 is encrypted" state_is 1 vx0 encrypted
daemon_stop 1

say "it boots, NIC down and without addresses"
reboot
must "guard ends well" lab-hv 1 ovs-ipsec-offload guard --timeout 5s
must "tables stand" nic_is 1 tx_tables 1
must "again, without a change" test "$(lab-hv 1 ovs-ipsec-offload guard | grep -vc '^#')" = 0
boot_gate 0
must "the gate has nothing to say" test ! -s /tmp/gate
network
must "tables stand after the NIC came up" nic_is 1 tx_tables 1

say "it boots, and the NIC is not switched at all"
reboot
dev=$(lab-hv 1 devlink dev | head -n 1 | cut -d: -f1)
lab-hv 1 devlink dev eswitch set "$dev" mode legacy
must "a dry run changes nothing" sh -c 'lab-hv 1 ovs-ipsec-offload guard --dry-run && [ -z "$(lab-hv 1 ip xfrm policy)" ]'
boot_gate 1 IPSEC_GATE_WAIT=0 IPSEC_GATE_UNGUARDED=refuse
must "hw-offload is still true" test "$(hw_offload)" = '"true"'
lab-hv 1 ip xfrm policy flush
set +e; lab-hv 1 ovs-ipsec-offload guard --timeout 0s; rc=$?; set -e
must "guard ends with 1" test $rc = 1
must "guards stand in the host's stack" test "$(policies | grep -c 'action block')" = 4
boot_gate 0 IPSEC_GATE_WAIT=0
must "hw-offload is taken out" test -z "$(hw_offload)"
must "nothing stands in the NIC" test "$(policies | grep -c 'mode packet')" = 0
network
lab-ovs 1 start-switch
steer 1 vx0
lab-wire start
lab-vm 1 ping -q -c 5 -i 0.1 -W 1 192.168.7.2 >/tmp/ping 2>&1 || true
must "nothing comes through" grep -q ' 0 received' /tmp/ping
must "nothing is offloaded" nic_is 1 offloaded_flows 0
lab-wire stop | tee /tmp/wire
must "the wire saw no clear-text VXLAN" grep -qx 'udp4789 0' /tmp/wire
no_clear

say "the NIC is switched while guard waits for it; then the daemon runs"
from=$(cut -d. -f1 /proc/uptime)
lab-hv 1 ovs-ipsec-offload guard --timeout 60s >/tmp/guard 2>&1 &
guard=$!
lab-hv 1 devlink dev eswitch set "$dev" mode switchdev
wait $guard || fail "guard ends with $?: $(cat /tmp/guard)"
must "guard did not wait for its time to be over" test $(($(cut -d. -f1 /proc/uptime) - from)) -lt 30
must "its guards moved into the NIC" test "$(policies | grep -c 'mode packet')" -ge 4
daemon_start 1
key=$(keys 1 2)
lab-hv 1 ovs-vsctl set interface vx0 options:ipsec_keys="$key"
eventually 20 "vx0 is encrypted" state_is 1 vx0 encrypted
eventually 10 "hw-offload is true again" sh -c "[ \"\$(lab-hv 1 ovs-vsctl get Open_vSwitch . other_config:hw-offload)\" = '\"true\"' ]"
must "the guards stand in the NIC" test "$(lab-hv 1 ovs-ipsec-offload status --json | jq '[.guards[] | select(.stands == "hardware")] | length')" = 2
no_clear
