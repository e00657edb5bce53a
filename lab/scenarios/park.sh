#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A host is parked, its eswitch mode changed and changed back, and unparked.
. "$(dirname "$0")/lib.sh"
daemon_start 1
daemon_start 2
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"
for n in 1 2; do steer $n vx0; eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
eventually 10 "overlay answers" reaches 1 192.168.7.2
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
lab-vm 1 ping -q -i 0.01 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!

say "park"
lab-hv 1 ovs-ipsec-offload park
for k in tx_tables rx_tables tx_refs rx_refs offloaded_flows; do must "hv1: $k is 0" nic_is 1 $k 0; done
must "the overlay is blocked" sh -c "! lab-vm 1 ping -q -c 3 -i 0.2 -W 1 192.168.7.2"
no_clear

say "the eswitch mode is changed, and changed back"
handle=$(lab-hv 1 ovs-ipsec-offload status --json | jq -r '.pfs[0].handle')
lab-hv 1 devlink dev eswitch set "$handle" mode legacy
must "legacy" sh -c "lab-hv 1 devlink dev eswitch show $handle | grep -q 'mode legacy'"
lab-hv 1 devlink dev eswitch set "$handle" mode switchdev
daemon_stop 1
daemon_start 1
must "hv1 is still parked" test "$(lab-hv 1 ovs-ipsec-offload status --json | jq -r .state)" = parked
no_clear

say "unpark"
lab-hv 1 ovs-ipsec-offload unpark
eventually 10 "the old keys are spent" problem_is 1 vx0 KEY_USED
key=$(keys 1 2)
for n in 1 2; do lab-hv $n ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"; done
eventually 20 "overlay answers" reaches 5 192.168.7.2
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
no_clear
kill -INT $ping; wait $ping || true

say "uninstall: not before the tunnel is gone, and the host is parked"
lab-hv 1 ovs-ipsec-offload park >/dev/null
daemon_stop 1
must "refused while a port asks for IPsec" sh -c "! lab-hv 1 ovs-ipsec-offload uninstall 2>/tmp/err && grep -q UNINSTALL_ASKED /tmp/err"
lab-hv 1 ovs-vsctl del-port br-int vx0
lab-hv 1 ovs-ipsec-offload uninstall
must "hv1: no policy is left" test -z "$(lab-hv 1 ip xfrm policy | grep -v '^\s*socket' | grep 4789)"
must "hv1: the database is as it was" sh -c "! lab-hv 1 ovs-vsctl list Open_vSwitch | grep -E 'ipsec-offload|flow-limit'"
must "hv1: hw-tc-offload is as it was" sh -c "lab-hv 1 ethtool -k pf0 | grep -q 'hw-tc-offload: on' && lab-hv 1 ethtool -k rep0 | grep -q 'hw-tc-offload: on'"
no_clear
