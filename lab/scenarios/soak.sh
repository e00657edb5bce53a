#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: --timeout 3600
# Ports churn on both hosts while all that can go wrong goes wrong, in an order that
# SEED gives, for SOAK_SECONDS: daemon, ovsdb-server and ovs-vswitchd are killed, the
# database is empty for a while, guards and policies are taken away, the wire is cut,
# the clock jumps, the monitor's socket overruns, the host is parked. PORTS and RATE
# say how many ports there are and how many changes are made in a second.
# The seed that is used by default has the quick events first.
. "$(dirname "$0")/lib.sh"
here=$(dirname "$0")
seconds=${SOAK_SECONDS:-25} seed=${SEED:-15} ports=${PORTS:-20} rate=${RATE:-2}
note "SEED=$seed SOAK_SECONDS=$seconds"
RANDOM=$seed
trap 'rm -f /tmp/alive*; kill $(jobs -p) 2>/dev/null || true' EXIT
now() { cut -d. -f1 /proc/uptime; }

# supervised keeps the daemon of hv1 alive, as systemd does.
supervised() {
	while [ -e /tmp/alive ]; do
		lab-hv 1 ovs-ipsec-offload run --retire-after 2s >>/tmp/daemon1.log 2>&1 &
		echo $! >/tmp/daemon1.pid
		wait $! || true
	done 2>/dev/null # the shell tells of those that were killed
}
both_key() {
	key=$(keys 1 2)
	for n in 2 1; do lab-hv $n ovs-vsctl --no-wait --if-exists set interface vx0 options:ipsec_keys="$key"; done
}
# mended: all is well with the tunnel that has traffic. The operator makes new keys
# where they are spent, and steers traffic when the bridge was made anew.
mended() {
	case $(state 1 vx0) in
	encrypted) lab-hv 1 ovs-ofctl --names dump-flows br-int | grep -q 'in_port=rep0' || steer 1 vx0; reaches 1 192.168.7.2 && nic_over 1 offloaded_flows 0 ;;
	blocked) [ "$(problem 1 vx0)" != KEY_USED ] || both_key; false ;;
	*) false ;;
	esac
}
idle() { lab-hv "$1" ovs-ipsec-offload plan | grep -q '^# nothing to do'; }
# settled N: each pair of hypervisor N is encrypted, or says that its key is spent.
settled() {
	lab-hv "$1" ovs-ipsec-offload status --json | jq -e '[.pairs[] | select(.state != "encrypted" and .problem.code != "KEY_USED")] == []' && idle "$1"
}

# The events. What each may let out in clear text is in allowed.
ev_term()     { kill -TERM "$(cat /tmp/daemon1.pid)"; }
ev_kill()     { kill -KILL "$(cat /tmp/daemon1.pid)"; }
ev_hup()      { kill -HUP "$(cat /tmp/daemon1.pid)"; }
ev_database() { lab-hv 1 sh -c 'kill -9 $(cat /run/openvswitch/ovsdb-server.pid)'; lab-ovs 1 start-db; }
db_swap()     { lab-hv 1 sh -c 'kill $(cat /run/openvswitch/ovsdb-server.pid)'; eventually 10 "database ended" sh -c '! lab-hv 1 test -e /run/openvswitch/ovsdb-server.pid'; "$@"; lab-ovs 1 start-db; }
ev_empty() {
	db_swap lab-hv 1 sh -c 'cd /etc/openvswitch; mv conf.db real.db; ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema'
	sleep $((RANDOM % 3))
	db_swap lab-hv 1 sh -c 'cd /etc/openvswitch; mv real.db conf.db'
}
ev_vswitchd() { lab-hv 1 sh -c 'kill -9 $(cat /run/openvswitch/ovs-vswitchd.pid)'; lab-ovs 1 start-switch; }
ev_guard()    { lab-hv 1 ip xfrm policy deleteall dir out action block; }
ev_policies() { lab-hv 1 ip xfrm policy flush; }
ev_wire()     { lab-hv 1 ip link set wire1 down; sleep 0.$((RANDOM % 10)); lab-hv 1 ip link set wire1 up; }
ev_clock()    { date -s "@$(($(date +%s) + RANDOM - 16384))" >/dev/null; }
ev_overrun()  { lab-hv 1 ip -batch /tmp/foreign; }
ev_park()     { lab-hv 1 ovs-ipsec-offload park; sleep $((RANDOM % 2)); eventually 30 "unparked" lab-hv 1 ovs-ipsec-offload unpark; }
events=(term kill hup database empty vswitchd guard policies wire clock overrun park)
allowed() { case $1 in policies) echo 400 ;; *) echo 0 ;; esac; }
for i in $(seq 1 250); do for j in 1 2 3 4; do
	echo "xfrm policy add src 198.51.$j.$i dst 198.51.100.1 dir out priority 10"
done; done >/tmp/foreign
sed 's/add/delete/; s/ priority 10//' /tmp/foreign >/tmp/foreign.del; cat /tmp/foreign.del >>/tmp/foreign

# usage PID: resident memory in KiB, open files.
usage() { echo "$(awk '/^VmRSS/ { print $2 }' "/proc/$1/status") $(ls "/proc/$1/fd" | wc -l)"; }
highest() { # of the daemon of hv1, whichever it is
	while sleep 1; do usage "$(cat /tmp/daemon1.pid)" 2>/dev/null >>/tmp/usage || true; done
}
asking() { while sleep 0.5; do for v in status plan; do lab-hv 1 ovs-ipsec-offload $v; done >/dev/null 2>&1 || true; done; }

say "a tunnel with traffic, and $ports ports on each host that come, change and go"
touch /tmp/alive
supervised &
daemon_start 2 --retire-after 2s
key=$(keys 1 2)
for n in 2 1; do tunnel $n vx0 10.0.0.$n 10.0.0.$((3 - n)) key=100 ipsec_keys="$key"; done
for n in 1 2; do eventually 20 "hv$n: traffic goes into the tunnel" steer $n vx0; done
lab-wire start
lab-vm 1 ping -q -i 0.01 192.168.7.2 >/tmp/ping 2>&1 &
eventually 60 "the tunnel is encrypted" mended
for n in 1 2; do lab-hv $n python3 "$here/churn.py" hv$n "$ports" "$rate" "$seed$n" & churners+=" $!"; done
asking & askers=$!
highest & askers+=" $!"
eventually 30 "ports come and go" sh -c '[ "$(cat /tmp/churned.hv1)" -gt 10 ] && [ "$(cat /tmp/churned.hv2)" -gt 10 ]'
first2=$(usage "$(cat /tmp/daemon2.pid)")

say "events"
finish=$(($(now) + seconds)) clear=$(nic 1 tx_clear_vxlan) budget=0 count=0
# One of each first, in random order; then any.
queue=$(printf '%s\n' "${events[@]}" | shuffled "$seed")
while [ "$(now)" -lt "$finish" ]; do
	if [ -n "$queue" ]; then event=${queue%%$'\n'*}; queue=${queue#"$event"}; queue=${queue#$'\n'}; else event=${events[RANDOM % ${#events[@]}]}; fi
	note "$(cut -d' ' -f1 /proc/uptime) $event"
	ev_$event >/tmp/event.out 2>&1 || note "$event: $(tail -n 1 /tmp/event.out)"
	echo "$event" >>/tmp/events
	budget=$((budget + $(allowed "$event"))) count=$((count + 1))
	sleep 0.$((RANDOM % 10))
	[ $((count % 5)) -ne 0 ] || eventually 60 "whole" mended
	leaked=$(($(nic 1 tx_clear_vxlan) - clear))
	[ "$leaked" -le "$budget" ] || fail "$leaked packets in clear text after $event, at most $budget are allowed for; SEED=$seed"
done
[ -z "$queue" ] || note "left out for want of time: $(echo $queue)"

say "what is left after it"
kill $churners $askers
eventually 60 "the tunnel is whole" mended
for n in 1 2; do eventually 60 "hv$n: every pair is encrypted or its key spent, and nothing is left to do" settled $n; done
read -r rss files < <(usage "$(cat /tmp/daemon2.pid)")
most=$(sort -n /tmp/usage | tail -n 1 | cut -d' ' -f1) mostf=$(sort -n -k2 /tmp/usage | tail -n 1 | cut -d' ' -f2)
note "hv2's daemon, which ran through it all: $first2 (KiB, files) at first, $rss $files at last; hv1's at most $most $mostf"
must "its files do not pile up" test "$files" -le $((${first2#* } + 8))
must "nor its memory" test "$rss" -le $((${first2% *} + 40960))
must "nor those of hv1's" test "$mostf" -le $((${first2#* } + 30)) -a "$most" -le $((${first2% *} + 81920))
leaked=$(($(nic 1 tx_clear_vxlan) - clear))
must "hv2 sent nothing in clear text" nic_is 2 tx_clear_vxlan 0
wire=$(lab-wire stop | awk '$1 == "udp4789" { print $2 }')
must "the wire carried no more than the NIC says: $wire of $leaked" test "$wire" -le "$leaked"
rm -f /tmp/alive
kill "$(cat /tmp/daemon1.pid)"
wait %1 || true
must "a fresh start would do nothing" idle 1
must "flow-limit is unset" sh -c '! lab-hv 1 ovs-vsctl get Open_vSwitch . other_config | grep -q flow-limit'
must "hw-tc-offload is on" sh -c 'for d in pf0 rep0; do lab-hv 1 ethtool -k $d | grep -q "hw-tc-offload: on" || exit 1; done'
kill -INT %3 2>/dev/null || true
say "SEED=$seed: $count events, $(cat /tmp/churned.hv1) + $(cat /tmp/churned.hv2) changes of ports, $leaked packets in clear text"
sort /tmp/events | uniq -c
