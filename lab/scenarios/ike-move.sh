#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Two hosts move from ovs-monitor-ipsec with strongSwan to this program, one after the
# other and under traffic, in the order of docs/monitor.md.
. "$(dirname "$0")/ike.sh"
say "both run ovs-monitor-ipsec"
for n in 1 2; do
	lab-hv $n ovs-ofctl del-flows br-int # what Open vSwitch sends before the script has its policies is clear text
	lab-ike $n start stock-strongswan
	port $n vx0 4 key=100 psk=swordfish
done
for n in 1 2; do eventually 60 "hv$n: the script's policies stand" sh -c "lab-hv $n ip xfrm policy | grep -A 1 'udp dport 4789' | grep -q 'dir out'"; done
for n in 1 2; do steer $n vx0; done
eventually 30 "overlay answers" reaches 1 192.168.7.2
stream

# move N [SETTING...]: ovs-monitor-ipsec ends and leaves its tunnels, guards come, by a
# daemon with those settings, then the IKE daemon goes, and ours comes.
move() {
	say "hv$1 moves"
	must "the script leaves everything" lab-hv "$1" ovs-appctl -t ovs-monitor-ipsec exit --no-cleanup
	daemon_start "$@"
	eventually 10 "a guard stands in the NIC" sh -c "lab-hv $1 ovs-ipsec-offload status | grep -q 'guard     10.0.0.$1 udp 4789: hardware pf0'"
	eventually 30 "traffic goes on" lab_reaches 20
	lab-ike "$1" stop
	must "the old SAs are gone" test -z "$(sas "$1" | grep -v '^0x00000000')" # that would wait for keys
	daemon_stop "$1"
	lab-ike "$1" start
	daemon_start "$1"
}
lab-hv 1 ovs-vsctl --no-wait set interface vx0 options:ipsec_peer=ovs-monitor-ipsec
move 1
encrypted vx0 1
eventually 60 "overlay answers" reaches 1 192.168.7.2
must "hv1: every SA is in the NIC" all_offloaded 1

move 2 --ike-socket=/run/nobody.vici # as where the old charon does not answer VICI
eventually 60 "hv2: hv1 still takes it for the script" problem_is 2 vx0 IKE_NO_PROPOSAL
lab-hv 1 ovs-vsctl --no-wait remove interface vx0 options ipsec_peer
encrypted vx0
carried vx0
for n in 1 2; do must "hv$n: every SA is in the NIC" all_offloaded $n; done
stream_end
no_clear
