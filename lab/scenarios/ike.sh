# SPDX-License-Identifier: Apache-2.0
# not in make test: it is sourced
# What the scenarios with an IKE daemon share.
. "$(dirname "$0")/lib.sh"

# fail: also what the IKE daemons have to say.
fail() {
	printf 'FAIL: %s\n' "$*"
	for n in 1 2; do
		[ -s "/tmp/daemon$n.log" ] && { echo "-- daemon on hv$n:"; tail -n 30 "/tmp/daemon$n.log"; }
		lab-hv "$n" ovs-ipsec-offload status 2>&1 | sed "s/^/-- status of hv$n: /"
		echo "-- nic $n: $(lab-nic "$n" | tr '\n' ' ')"
		lab-ike "$n" log 2>/dev/null | tail -n 40 | sed "s/^/-- IKE daemon of hv$n: /"
		lab-hv "$n" ip -d xfrm state | grep -E '^src|proto|offload' | sed "s/^/-- SAs of hv$n: /"
		lab-hv "$n" ip xfrm policy | grep -v socket | grep -E '^src|priority|proto esp' | sed "s/^/-- policies of hv$n: /"
	done
	exit 1
}

# port N PORT FAMILY [OPTION=VALUE...]: a VXLAN port towards the other hypervisor.
port() {
	n=$1 name=$2 family=$3; shift 3
	case $family in
	4) tunnel "$n" "$name" "10.0.0.$n" "10.0.0.$((3 - n))" "$@" ;;
	6) tunnel "$n" "$name" "fd00::$n" "fd00::$((3 - n))" "$@" ;;
	esac
}
# encrypted PORT [N...]: it is so, on both hypervisors or those named.
encrypted() {
	name=$1; shift
	for n in ${*:-1 2}; do eventually 60 "hv$n: $name encrypted" state_is "$n" "$name" encrypted; done
}
# carried PORT: the overlay's traffic goes by PORT, whole, and in hardware at both
# ends (or those named).
carried() {
	name=$1; shift
	for n in 1 2; do steer $n "$name"; done
	eventually 20 "overlay answers over $name" reaches 1 192.168.7.2
	must "20 of 20 answered" lab_reaches 20
	for n in ${*:-1 2}; do eventually 10 "hv$n: flows in hardware" offloads "$n"; done
}
# lab_reaches COUNT: as reaches, faster, over IPv4 of the overlay.
lab_reaches() { lab-vm 1 ping -q -c "$1" -i 0.05 -W 2 192.168.7.2 | grep -q " $1 received"; }

# sas N: "SPI REQID" of each SA of hypervisor N, sorted.
sas() { lab-hv "$1" ip xfrm state | awk '$1 == "proto" { print $4, $6 }' | sort; }
# before: remembers the SAs of both. renewed N: hypervisor N has the SAs of two
# children, and none of those.
before() { for n in 1 2; do sas $n >/tmp/before$n; done; }
renewed() {
	sas "$1" >/tmp/now
	[ "$(wc -l </tmp/now)" = 4 ] && [ -z "$(comm -12 /tmp/now "/tmp/before$1")" ]
}
# all_offloaded N: there are SAs, and each is in the NIC.
all_offloaded() {
	lab-hv "$1" ip -d xfrm state | awk '/^src/ { all++ } /offload parameters:.*mode packet/ { nic++ } END { exit !(all > 0 && all == nic) }'
}
# children N out|in: what the IKE daemon of hypervisor N calls its child SAs.
children() { lab-hv "$1" swanctl --list-sas 2>/dev/null | sed -n "s/^  \([^ ]*-$2\): #.*/\1/p" | sort -u; }
# contains FILE FILE: every line of the second stands in the first.
contains() { [ -z "$(sort "$1" | comm -13 - "$2")" ]; }

# stream: echo requests every 50 ms until stream_end, which shows what was lost
# and the longest time without an answer, and sets lost and gap (ms).
stream() {
	lab-vm 1 ping -D -i 0.05 -W 1 192.168.7.2 >/tmp/stream 2>&1 &
	stream=$!
}
stream_end() {
	kill -INT $stream
	wait $stream || true
	lost=$(awk '/packets transmitted/ { print $1 - $4 }' /tmp/stream)
	gap=$(awk '/bytes from/ { t = substr($1, 2) + 0; if (last && t - last > max) max = t - last; last = t } END { printf "%d", max * 1000 }' /tmp/stream)
	note "$(grep -o '.*received' /tmp/stream); longest time without an answer: $gap ms"
}
# wire_was_esp: ends lab-wire; ESP was seen, and no VXLAN in clear on port 4789 or
# the ports named at the start.
wire_was_esp() {
	lab-wire stop >/tmp/wire
	note "wire: $(tr '\n' ' ' </tmp/wire)"
	awk '$1 == "esp" && $2 > 20 { esp = 1 } $1 ~ /^udp/ && $2 != 0 { bad = 1 } END { exit !esp || bad }' /tmp/wire ||
		fail "the wire saw clear-text VXLAN, or no ESP"
}

# stock_peer KIND: hv2 runs the real ovs-monitor-ipsec, without a NIC's help; hv1 is
# ours, offloaded, and never clear. Both sides start again.
stock_peer() {
	lab-ike 1 start
	daemon_start 1
	say "hv2: $1"
	lab-ike 2 start "$1"
	port 2 vx0 4 key=100 psk=swordfish
	port 1 vx0 4 key=100 psk=swordfish ipsec_peer=ovs-monitor-ipsec
	encrypted vx0 1
	carried vx0 1
	must "hv1: every SA is in the NIC" all_offloaded 1

	say "hv1's IKE daemon and ours start again"
	lab-ike 1 stop
	daemon_stop 1
	daemon_start 1
	lab-ike 1 start
	encrypted vx0 1
	eventually 30 "overlay answers" reaches 1 192.168.7.2

	say "hv2's stops and starts again, with the script"
	lab-ike 2 stop
	lab-ike 2 start "$1"
	eventually 40 "overlay answers" reaches 1 192.168.7.2
	encrypted vx0 1
	carried vx0 1
	no_clear 1
}
