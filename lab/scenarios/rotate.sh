#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: --daemon-tags faultpoint --timeout 1500
# One-shot keys are changed under traffic: hv1 is told first, then hv2 is, then both
# while the daemon of hv1 dies at each stage (kill -9). No packet is lost, and none is
# clear. With SOAK_SECONDS it dies at one stage after the other until that time is over.
. "$(dirname "$0")/lib.sh"
seconds=${SOAK_SECONDS:-0} changes=0
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

# start N FAULT: the daemon of hypervisor N, which dies where FAULT says.
start() {
	lab-hv "$1" env OVS_IPSEC_FAULT="$2" ovs-ipsec-offload run --retire-after 2s >>"/tmp/daemon$1.log" 2>&1 &
	echo $! >"/tmp/daemon$1.pid"
}
stage() { lab-hv "$1" ovs-ipsec-offload status --json | jq -r '.pairs[0] | .rotation.stage // .state'; }
stage_is() { [ "$(stage "$1")" = "$2" ]; }
# turned N SET: what hypervisor N sends goes by that set.
turned() { lab-hv "$1" ovs-ipsec-offload status --json | jq -e --arg k "$2" '.pairs[0] | .state == "encrypted" and .keys == $k and (.rotation.stage // "drain") == "drain"'; }
tell() { lab-hv "$1" ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$2"; }
sent_by() { lab-hv "$1" ip xfrm policy list dir out | grep -A 9 "src 10.0.0.$1/32 dst 10.0.0.$((3 - $1))/32 proto udp dport" | grep -o 'reqid [0-9]*' | head -n 1; }
flows() { nic_over "$1" offloaded_flows 1; }

for n in 1 2; do start $n ""; done
key=$(keys 1 2)
for n in 1 2; do tunnel $n vx0 10.0.0.$n 10.0.0.$((3 - n)) key=100 ipsec_keys="$key"; done
for n in 1 2; do eventually 20 "hv$n: traffic goes into the tunnel" steer $n vx0; eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
eventually 10 "overlay answers" reaches 1 192.168.7.2
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
lab-vm 1 ping -q -i 0.005 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
counts_begin
[ "$seconds" = 0 ] || blast 192.168.7.2 "$seconds"
finish=$(($(cut -d. -f1 /proc/uptime) + seconds))

say "hv1 is told first"
first=$(sent_by 1) key=$(keys 1 2)
lab-hv 1 ovs-ipsec-offload keys rotate vx0 "$key"
eventually 10 "hv1 waits for a proof" stage_is 1 prove
esp=$(nic 1 tx_esp)
eventually 40 "traffic goes on" nic_over 1 tx_esp "$((esp + 300))"
must "by the old keys" test "$(sent_by 1)" = "$first"
must "hv1 still waits" stage_is 1 prove
tell 2 "$key"
for n in 1 2; do eventually 15 "hv$n sends by the new keys" turned $n "$key"; done
must "which are others" test "$(sent_by 1)" != "$first"
for n in 1 2; do eventually 20 "hv$n: the old ones are gone" stage_is $n encrypted; done
must "hv1 holds two SAs" test "$(lab-hv 1 ip xfrm state | grep -c '^src')" = 2

say "hv2 is told first"
key=$(keys 1 2)
tell 2 "$key"
eventually 10 "hv2 waits for a proof" stage_is 2 prove
must "keys rotate goes through on hv1" lab-hv 1 ovs-ipsec-offload keys rotate vx0 "$key" --wait 15s
eventually 15 "hv2 sends by the new keys" turned 2 "$key"

# dies WHERE FAULT [SPENT]: the daemon of hv1 dies at a step of a change of keys, and
# the next one goes on. SPENT: the key is lost with it, and the old ones go on.
dies() {
	say "the daemon of hv1 dies $1"
	daemon_stop 1
	start 1 "$2"
	key=$(keys 1 2)
	for n in 1 2; do tell $n "$key"; done
	wait "$(cat /tmp/daemon1.pid)" 2>/dev/null || note "it is dead"
	start 1 ""
	if [ -n "${3:-}" ]; then
		eventually 15 "the new keys are spent" problem_is 1 vx0 KEY_USED
		must "and the old ones go on" state_is 1 vx0 encrypted
		key=$(keys 1 2)
		for n in 1 2; do tell $n "$key"; done
	fi
	for n in 1 2; do eventually 20 "hv$n sends by the new keys" turned $n "$key"; done
	changes=$((changes + 1))
}
# each: at each stage in turn.
each() {
	dies "when the new inbound SA stands" "after:state add src 10.0.0.2"
	dies "when the new key is in the ledger" "after:reserve" spent
	dies "when the first probe may go" "after:sport 9"
	dies "before its traffic turns" "before:policy update"
	dies "when its traffic has turned" "after:policy update"
	dies "before the old inbound SA goes" "before:state delete src 10.0.0.2"
}
each
while [ "$(cut -d. -f1 /proc/uptime)" -lt $finish ]; do each; done

for n in 1 2; do eventually 20 "hv$n: the old keys are gone" stage_is $n encrypted; done
[ "$seconds" = 0 ] || blasted 192.168.7.2 $((seconds * 20))
counts_end
note "the daemon died in $changes changes of keys"
kill -INT $ping
wait $ping || true
cat /tmp/ping
must "no packet was lost" grep -q ' 0% packet loss' /tmp/ping
must "not a single one" awk '/packets transmitted/ { exit ($1 != $4 || $1 < 2000) }' /tmp/ping
no_clear
