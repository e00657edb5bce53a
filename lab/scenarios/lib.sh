# SPDX-License-Identifier: Apache-2.0
# What the scenarios share. A scenario sources it, says what it does, and fails
# at the first thing that is not as it must be.
set -eu
say()  { printf '\n--- [%s s] %s\n' "$(cut -d' ' -f1 /proc/uptime)" "$*"; }
note() { printf '    %s\n' "$*"; }
fail() {
	printf 'FAIL: %s\n' "$*"
	for n in $(seq "$LAB_HYPERVISORS"); do confess "$n"; done
	exit 1
}
# confess N: what there is to say of hypervisor N after a failure.
confess() {
	[ -s "/tmp/daemon$1.log" ] && { echo "-- daemon on hv$1:"; tail -n 30 "/tmp/daemon$1.log"; }
	lab-hv "$1" ovs-ipsec-offload status 2>&1 | sed "s/^/-- status of hv$1: /"
	echo "-- nic $1: $(lab-nic "$1" | tr '\n' ' ')"
}

# eventually SECONDS WHAT COMMAND...: the command must succeed within the time.
eventually() {
	limit=$1 what=$2; shift 2
	end=$(($(cut -d. -f1 /proc/uptime) + limit))
	until "$@" >/tmp/eventually.out 2>&1; do
		if [ "$(cut -d. -f1 /proc/uptime)" -ge "$end" ]; then
			tail -n 5 /tmp/eventually.out
			fail "not within $limit s: $what"
		fi
		sleep 0.1
	done
	note "$what"
}

# nic N KEY: one figure of the NIC under hypervisor N.
nic() { lab-nic "$1" | awk -v k="$2" '$1 == k { print $2 }'; }
# nic_is N KEY VALUE, nic_over N KEY VALUE: for eventually and for must.
nic_is()   { [ "$(nic "$1" "$2")" = "$3" ]; }
nic_over() { [ "$(nic "$1" "$2")" -gt "$3" ]; }
# offloads N [ADDRESS]: flows of hypervisor N are in hardware while vm1 sends to
# ADDRESS: one that was made before the gate opened comes back by the next packet.
offloads() { lab-vm 1 ping -q -c 1 -W 1 "${2:-192.168.7.2}" >/dev/null 2>&1 || true; nic_over "$1" offloaded_flows 0; }
must() { what=$1; shift; "$@" || fail "$what"; note "$what"; }

# no_clear: the one figure everything is about.
no_clear() {
	for n in ${1:-1 2}; do
		nic_is "$n" tx_clear_vxlan 0 || fail "hv$n sent $(nic "$n" tx_clear_vxlan) clear-text VXLAN packets"
	done
	note "clear-text VXLAN packets sent: 0"
}

# looked N: the daemon of hypervisor N has looked at its host; before that its
# status says "waiting" and nothing else.
looked() { lab-hv "$1" ovs-ipsec-offload status --json | jq -e '.state != "waiting"' >/dev/null; }
# The daemon of hypervisor N, in the background; its log in /tmp/daemonN.log.
daemon_start() {
	n=$1; shift
	lab-hv "$n" ovs-ipsec-offload run "$@" >>"/tmp/daemon$n.log" 2>&1 &
	echo $! >"/tmp/daemon$n.pid"
	eventually 20 "daemon on hv$n has looked at its host" looked "$n"
}
daemon_stop() {
	pid=$(cat "/tmp/daemon$1.pid")
	kill "${2:--TERM}" "$pid"
	wait "$pid" || true
}

# keys A B: one key set for hypervisors A and B, installed on both; prints its name.
keys() {
	rm -rf /tmp/keys
	name=$(ovs-ipsec-offload keys new --pair "hv$1,hv$2" --out /tmp/keys 2>/dev/null)
	for n in "$1" "$2"; do
		lab-hv "$n" mkdir -p -m 700 /etc/ovs-ipsec-offload/keys.d
		lab-hv "$n" install -m 600 "/tmp/keys/hv$n/$name.json" /etc/ovs-ipsec-offload/keys.d/
	done
	rm -rf /tmp/keys
	echo "$name"
}

# tunnel N PORT LOCAL REMOTE [OPTION=VALUE...]: a port on br-int of hypervisor N; a
# VXLAN one if type=KIND is not among the options, and without local_ip or remote_ip
# if LOCAL or REMOTE is -.
# It does not wait for ovs-vswitchd, which may be stopped on purpose.
tunnel() {
	n=$1 port=$2 l=$3 r=$4; shift 4
	opts=""
	[ "$l" = - ] || opts="options:local_ip=$l"
	[ "$r" = - ] || opts="$opts options:remote_ip=$r"
	for o in "$@"; do
		case $o in
		type=*) opts="$opts $o" ;; # the last one holds
		*) opts="$opts options:$o" ;;
		esac
	done
	# shellcheck disable=SC2086
	lab-hv "$n" ovs-vsctl --no-wait --may-exist add-port br-int "$port" -- set interface "$port" type=vxlan $opts
}

# steer N PORT: all traffic of the VF goes through PORT and back, so that every
# flow can be offloaded (NORMAL floods to the bridge's own port at first).
steer() {
	lab-hv "$1" ovs-ofctl del-flows br-int
	lab-hv "$1" ovs-ofctl add-flow br-int "in_port=rep0,actions=output:$2"
	lab-hv "$1" ovs-ofctl add-flow br-int "in_port=$2,actions=output:rep0"
}

# state N PORT: what the status says about a tunnel port.
state() { lab-hv "$1" ovs-ipsec-offload status --json | jq -r --arg p "$2" '.pairs[] | select(.ports | index($p)) | .state'; }
state_is() { [ "$(state "$1" "$2")" = "$3" ]; }
# port_is N PORT STATE, host_is N STATE: the state of a port, which may be in no pair,
# and of the whole host.
port_is() { [ "$(lab-hv "$1" ovs-ipsec-offload status --json | jq -r --arg p "$2" '.ports[] | select(.name == $p) | .state')" = "$3" ]; }
host_is() { [ "$(lab-hv "$1" ovs-ipsec-offload status --json | jq -r .state)" = "$2" ]; }
# problem N PORT: the code of a tunnel port's first problem.
problem() { lab-hv "$1" ovs-ipsec-offload status --json | jq -r --arg p "$2" '.ports[] | select(.name == $p) | .problems[0].code // "none"'; }
problem_is() { [ "$(problem "$1" "$2")" = "$3" ]; }

# reaches COUNT ADDRESS: every one of COUNT echo requests from vm1 is answered.
reaches() { lab-vm 1 ping -q -c "$1" -i 0.2 -W 2 "$2" | grep -q " $1 received"; }
# spis N: the SPIs of hypervisor N, sorted.
spis() { lab-hv "$1" ip xfrm state | grep -o 'spi 0x[0-9a-f]*' | sort | tr '\n' ' '; }
# shuffled SEED: the lines of its input in an order that SEED gives.
shuffled() { awk -v seed="$1" 'BEGIN { srand(seed) } { printf "%.9f\t%s\n", rand(), $0 }' | sort -n | cut -f2; }

# blast ADDRESS SECONDS: datagrams from vm1 to that address of vm2, 2 Mbit/s of them, at
# a port of its own. blasted ADDRESS LEAST: waits for their end; at least so many were
# sent, and none was lost. (A moment of a busy machine must not fill the receiver's buffer.)
blast() {
	for f in rmem_max wmem_max; do echo 8388608 >/proc/sys/net/core/$f; done
	blasts=$((${blasts:-0} + 1))
	lab-vm 2 iperf3 -s -1 -p $((5200 + blasts)) >/dev/null &
	eventually 10 "vm2 listens" sh -c "lab-vm 2 ss -Hltn | grep -q ':$((5200 + blasts)) '"
	lab-vm 1 iperf3 -u -b 2M -l 1200 -w 4M -p $((5200 + blasts)) -c "$1" -t "$2" >"/tmp/blast-$1" 2>&1 &
	echo $! >"/tmp/blast-$1.pid"
	eventually 20 "datagrams are on their way to $1" sh -c "lab-vm 2 ss -Huan | grep -q ':$((5200 + blasts)) '"
}
blasted() {
	wait "$(cat "/tmp/blast-$1.pid")" || { cat "/tmp/blast-$1"; fail "iperf3 to $1"; }
	grep 'receiver' "/tmp/blast-$1" | sed 's/^/    /'
	set -- "$1" "$2" "$(grep 'receiver' "/tmp/blast-$1" | grep -o '[0-9][0-9]*/[0-9][0-9]*')"
	must "to $1: none of ${3#*/} datagrams was lost" test "${3%/*}" = 0
	must "and that were many" test "${3#*/}" -ge "$2"
}

# counts_begin: from now on the counters of both NICs are written down every second.
# counts_end: none of them ever went back.
counts_begin() {
	: >/tmp/counts
	while sleep 1; do for n in 1 2; do lab-nic $n | sed "s/^/$n./"; done; done >>/tmp/counts 2>/dev/null &
	counting=$!
}
counts_end() {
	kill $counting; wait $counting 2>/dev/null || true
	must "counters of the NICs never went back, in $(grep -c '^1.tx_esp ' /tmp/counts) looks" \
		awk '$1 ~ /^[12]\.(tx|rx|fdb)_/ && $1 !~ /_(tables|refs|states|policies)$/ { if ($2 < last[$1]) exit bad = 1; last[$1] = $2; n++ } END { exit bad || n < 20 }' /tmp/counts
}
