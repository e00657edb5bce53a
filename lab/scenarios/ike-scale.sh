#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --param max_rx_sa=0 --timeout 3300 --mem 4096
# not in make test: make bench
# IKE with many peers: how fast hv1 becomes whole, what one more costs, beside what charon's
# own load-tester reaches and what ovs-monitor-ipsec takes, in one run. hv2 is all the
# peers: a charon without dos protection, with an address for each (scale.py peers).
#
# PEERS     numbers of tunnels (default "10 100 400")
# TURNS     how often charon's load-tester and ours have their turn (default 3)
# MORE      tunnels added one by one to the last of them (default 9)
# CHILDREN  two, or one (ipsec_children=one)
# PARTS     of "load-tester ours strongswan libreswan"
# LOAD_TESTER is libstrongswan-load-tester.so of the image's strongSwan (see
# docs/performance.md): Debian does not package it.
. "$(dirname "$0")/ike.sh"
here=$(pwd)
peers=${PEERS:-"10 100 400"} turns=${TURNS:-3} more=${MORE:-9} children=${CHILDREN:-two} parts=${PARTS:-"load-tester ours strongswan libreswan"}
cap=${CAP:-300}
most=${peers##* }
# The load-tester asks no peer for a sign of life; ours would, every 10 s where there
# is no traffic, which is more exchanges than those that are measured.
options="ipsec_dpddelay=1h" per=4
[ "$children" != one ] || per=2 options="$options ipsec_children=one"
table=/tmp/table
: >$table
row() { printf '%-34s %6s  %s\n' "$1" "$2" "$3" | tee -a $table; }
scale() { hv=$1; shift; lab-hv "$hv" python3 "$here/scale.py" "$@"; }
wants() { case " $parts " in *" $1 "*) ;; *) return 1 ;; esac; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
divide() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

# rates WHAT N TEXT CHILDREN PAIRS SECONDS: a row, and what is compared. The first child
# comes with the second exchange, each other one with one of its own.
rates() {
	exchanges=$(divide "$(((1 + $4) * $5))" "$6") childs=$(divide "$(($4 * $5))" "$6")
	row "$1" "$2" "$3: $(divide "$5" "$6") pairs/s, $exchanges exchanges/s, $childs child SAs/s"
}
# compare: what ours reached by what the load-tester did just before.
compare() { echo "$(divide "$exchanges" "$its_exchanges") $(divide "$childs" "$its_childs")" >>/tmp/ratios; }
ratios() { row "ours / load-tester" "$1" "medians of $turns turns: exchanges $(cut -d' ' -f1 /tmp/ratios | median), child SAs $(cut -d' ' -f2 /tmp/ratios | median); exchanges of each turn: $(cut -d' ' -f1 /tmp/ratios | paste -sd' ')"; }

say "addresses for $((most + more)) peers on hv2"
sysctl -q -w net.ipv4.neigh.default.gc_thresh1=4096 net.ipv4.neigh.default.gc_thresh2=4096 net.ipv4.neigh.default.gc_thresh3=8192
ip -n hv1 route add 10.1.0.0/16 dev pf0
for i in $(seq 0 $((most + more - 1))); do echo "addr add 10.1.$((i / 250)).$((i % 250 + 1))/16 dev pf0"; done | ip -n hv2 -batch -
# All the peers are one host here, which charon would protect itself from.
lab-hv 2 sh -c 'echo "charon-systemd { dos_protection = no }" >/etc/strongswan.d/peers.conf'

# peers_start N KIND, peers_stop: the peers on hv2.
peers_start() {
	lab-ike 2 start
	lab-hv 2 python3 "$here/scale.py" peers "$1" "$children" "$2" >/tmp/peers.log 2>&1 &
	peers_pid=$!
	eventually 120 "hv2 is $1 peers" grep -q loaded /tmp/peers.log
}
peers_stop() {
	kill "$peers_pid"
	wait "$peers_pid" || true
	clean 2
}
# clean N: nothing of IKE is left on hypervisor N.
clean() {
	lab-ike "$1" stop
	lab-hv "$1" ovs-vsctl list-ports br-int | sed -n 's/^t[0-9]*$/-- del-port br-int &/p' | xargs -r -n 4000 lab-hv "$1" ovs-vsctl --no-wait
	lab-hv "$1" ip xfrm policy flush
	lab-hv "$1" ip xfrm state flush
}

load_tester_conf() {
	cat <<-END
		charon-systemd {
			dos_protection = no
			plugins {
				load-tester {
					load = yes
					enable = yes
					initiator = 10.0.0.1
					responder = 10.0.0.2
					proposal = aes256gcm16-prfsha384-x25519
					esp = aes256gcm16-x25519-esn
					initiator_auth = psk
					responder_auth = psk
					mode = transport
					initiator_tsi = %dynamic[udp/%unique]
					initiator_tsr = %dynamic[udp/4789]
					responder_tsi = %dynamic[udp]
					responder_tsr = %dynamic[udp/4789]
					child_rekey = 3600
				}
			}
		}
	END
}
# load_tester N: the reference: N pairs of charon's own making.
load_tester() {
	for n in 1 2; do
		load_tester_conf | lab-hv $n tee /etc/strongswan.d/load-tester.conf >/dev/null
		lab-ike $n start
	done
	# shellcheck disable=SC2046
	used_from $(charons)
	scale 1 load-test "$1" >/tmp/result || fail "load-tester"
	read -r took up sas </tmp/result
	rates "load-tester: IKE_SA + 1 CHILD_SA" "$1" "$took s, $sas SAs" 1 "$up" "$took"
	its_exchanges=$exchanges its_childs=$childs
	# shellcheck disable=SC2046
	note "processor time: $(used $(charons))"
	for n in 1 2; do
		clean $n
		lab-hv $n rm /etc/strongswan.d/load-tester.conf
	done
}

# used PROCESS...: what they have used of the processors since the last call of used_from.
used_from() { scale 1 cpu "$@" >/tmp/cpu; }
used() { scale 1 cpu "$@" | paste -d' ' /tmp/cpu - | awk '{ printf "%s %s %.1f s, ", $1, $2, $6 - $3 } END { print "" }'; }
# charons: the two.
charons() { for n in 1 2; do echo "charon$n=$(lab-ike $n status | cut -d' ' -f3)"; done; }
# pids: the processes whose processor time matters.
pids() {
	echo "daemon=$(cat /tmp/daemon1.pid) $(charons) peers=$peers_pid"
	lab-hv 1 sh -c 'echo "vswitchd=$(cat /run/openvswitch/ovs-vswitchd.pid) ovsdb=$(cat /run/openvswitch/ovsdb-server.pid)"'
}
# ours N: from the commit of N tunnels until all are encrypted.
ours() {
	peers_start $((most + more)) ours
	lab-ike 1 start
	daemon_start 1 ${LOG_LEVEL:+--log-level "$LOG_LEVEL"}
	# shellcheck disable=SC2046
	used_from $(pids)
	# shellcheck disable=SC2086
	began=$(scale 1 add 0 "$1" $options)
	scale 1 whole $(($1 * per / 2)) "$(lab-nic 1 dir)" $cap "$began" >/tmp/result
	read -r nic took up </tmp/result
	rates "ours: IKE_SA + $((per / 2)) CHILD_SA" "$1" "$took s ($nic s to the last SA in the NIC), $up encrypted" $((per / 2)) "$up" "$took"
	# shellcheck disable=SC2046
	note "processor time: $(used $(pids))"
}
ours_end() {
	daemon_stop 1
	clean 1
	peers_stop
}
# one_more: what one more tunnel takes, the exchanges aside.
one_more() {
	: >/tmp/ones
	for i in $(seq "$most" $((most + more - 1))); do
		# shellcheck disable=SC2086
		scale 1 one "$i" "$per" /var/log/charon.log "$(cat /tmp/daemon1.pid)" $options | tee -a /tmp/ones
	done
	awk -v per="$per" '$4 != per || $5 != 0 { exit 1 }' /tmp/ones || fail "one more tunnel is not just $per SAs more"
	row "ours: one more" "$most" "median of $more: $(cut -d' ' -f1 /tmp/ones | median) ms to the first packet, exchanges $(cut -d' ' -f2 /tmp/ones | median) ms, $(cut -d' ' -f3 /tmp/ones | median) ms to encrypted; together without the exchanges $(awk '{ print $1 + $3 }' /tmp/ones | median) ms; others' SAs gone: 0"
}

# one_more_if N: if all of N are up.
one_more_if() {
	if [ "$up" = "$1" ]; then one_more; else row "ours: one more" "$1" "not measured: only $up of $1 are up"; fi
}

# stock KIND N: ovs-monitor-ipsec on hv1, then one more tunnel.
stock() {
	peers_start $(($2 + 1)) stock
	lab-ike 1 start "stock-$1"
	began=$(scale 1 add 0 "$2")
	scale 1 sent "$2" 4 $cap "$began" >/tmp/result
	read -r took up </tmp/result
	if [ "$up" = "$2" ]; then
		row "ovs-monitor-ipsec, $1" "$2" "$took s: $(divide "$up" "$took") pairs/s"
		scale 1 sent-one "$2" 4 $cap >/tmp/result
		read -r took up gone </tmp/result
		row "ovs-monitor-ipsec, $1: one more" "$2" "$took s, up: $up, others' SAs gone: $gone of $((4 * $2))"
	else
		row "ovs-monitor-ipsec, $1" "$2" "not done in $cap s: $up of $2"
	fi
	clean 1
	peers_stop
}

reference=""
if wants load-tester && [ -e "$here/libstrongswan-load-tester.so" ]; then
	cp "$here/libstrongswan-load-tester.so" /usr/lib/ipsec/plugins/
	reference=yes
fi
[ -n "$reference" ] || note "no LOAD_TESTER: no reference"
for size in $peers; do
	say "$size tunnels: charon's load-tester, and ours"
	: >/tmp/ratios
	for nth in $(seq "$turns"); do
		[ -z "$reference" ] || load_tester "$size"
		wants ours || continue
		ours "$size"
		[ -z "$reference" ] || compare
		[ "$nth-$size" != "$turns-$most" ] || one_more_if "$size"
		ours_end
	done
	[ ! -s /tmp/ratios ] || ratios "$size"
done
for kind in strongswan libreswan; do
	wants $kind || continue
	for size in $peers; do
		say "ovs-monitor-ipsec with $kind: $size tunnels"
		stock $kind "$size"
	done
done
say "the table"
cat $table
