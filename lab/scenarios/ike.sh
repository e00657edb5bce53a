# SPDX-License-Identifier: Apache-2.0
# not in make test: it is sourced
# What the scenarios with an IKE daemon share.
. "$(dirname "$0")/lib.sh"

# What the scenarios are tried with: a kind of lab-ike that the daemon drives.
IKE=${IKE:-strongswan}

# confess: also what the IKE daemons have to say.
confess() {
	[ -s "/tmp/daemon$1.log" ] && { echo "-- daemon on hv$1:"; tail -n 30 "/tmp/daemon$1.log"; }
	lab-hv "$1" ovs-ipsec-offload status 2>&1 | sed "s/^/-- status of hv$1: /"
	echo "-- nic $1: $(lab-nic "$1" | tr '\n' ' ')"
	lab-ike "$1" log 2>/dev/null | tail -n 40 | sed "s/^/-- IKE daemon of hv$1: /"
	lab-hv "$1" ip -d xfrm state | grep -E '^src|proto|offload' | sed "s/^/-- SAs of hv$1: /"
	lab-hv "$1" ip xfrm policy | grep -v socket | grep -E '^src|priority|proto esp' | sed "s/^/-- policies of hv$1: /"
}

# link N M PORT FAMILY [OPTION=VALUE...]: a port of hypervisor N towards M, as tunnel
# makes them. FAMILY is 4 or 6, or 4- or 6- for one without local_ip.
link() {
	case $4 in 4*) net=10.0.0. ;; 6*) net=fd00:: ;; esac
	case $4 in *-) own=- ;; *) own=$net$1 ;; esac
	n=$1 far=$net$2 name=$3; shift 4
	tunnel "$n" "$name" "$own" "$far" "$@"
}
# port N PORT FAMILY [OPTION=VALUE...]: a port towards the other one of two hypervisors.
port() {
	n=$1 name=$2 family=$3; shift 3
	link "$n" $((3 - n)) "$name" "$family" "$@"
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

# sas N [NET]: "SPI REQID" of each SA of hypervisor N, or of those from addresses that
# begin so, sorted.
sas() { lab-hv "$1" ip xfrm state | awk -v net="${2:-}" '$1 == "src" { ours = index($2, net) == 1 } $1 == "proto" && ours { print $4, $6 }' | sort; }
# before [N...]: remembers the SAs of both, or of those named. renewed N [NET]: hypervisor
# N has those of two children (of that net), none of which it had. same N [NET]: it had
# all that it has. kept N: it has all that it had.
before() { for n in ${*:-1 2}; do sas "$n" >"/tmp/before$n"; done; }
renewed() {
	sas "$1" "${2:-}" >/tmp/now
	[ "$(wc -l </tmp/now)" = 4 ] && [ -z "$(comm -12 /tmp/now "/tmp/before$1")" ]
}
same() {
	sas "$1" "${2:-}" >/tmp/now
	[ -s /tmp/now ] && [ -z "$(comm -23 /tmp/now "/tmp/before$1")" ]
}
kept() {
	sas "$1" >/tmp/now
	[ -s "/tmp/before$1" ] && [ -z "$(comm -13 /tmp/now "/tmp/before$1")" ]
}
# all_offloaded N: there are SAs, and each is in the NIC.
all_offloaded() {
	lab-hv "$1" ip -d xfrm state | awk '/^src/ { all++ } /offload parameters:.*mode packet/ { nic++ } END { exit !(all > 0 && all == nic) }'
}
# children N out|in: what the IKE daemon of hypervisor N calls its child SAs.
children() { lab-hv "$1" swanctl --list-sas 2>/dev/null | sed -n "s/^  \([^ ]*-$2\): #.*/\1/p" | sort -u; }

# ike_start N: the IKE daemon and ours on hypervisor N, in this order.
ike_start() { lab-ike "$1" start "$IKE"; ours "$1"; }
# ours N: our daemon alone, for that kind of IKE daemon.
ours() {
	case $IKE in
	strongswan) daemon_start "$1" ;;
	*) daemon_start "$1" --ike "$IKE" ;;
	esac
}
# whack N ARG...: asks pluto of hypervisor N.
whack() ( n=$1; shift; lab-hv "$n" /usr/libexec/ipsec/whack "$@" )
# conns N [ADDRESS]: the connections that the IKE daemon of hypervisor N has, or the
# one with that peer. It names those of others, too, of which the lab has none.
conns() {
	case $IKE in
	strongswan)
		lab-hv "$1" swanctl --list-conns 2>/dev/null |
			awk -v want="${2:-}" '/^[^ ].*: IKEv/ { sub(":.*", ""); name = $0 } /^  remote:/ && (want == "" || $2 == want) { print name }'
		;;
	libreswan)
		whack "$1" --status | sed -n "s/^\"\(oio-[^\"]*\)\": .*\.\.\.${2:-[^=]*}===.*/\1/p" | sort -u
		;;
	esac
}
# forget N: an administrator has the IKE daemon of hypervisor N forget all that is not
# in its files, as a reload of its unit does, and all secrets; SAs stay.
# end_ike N ADDRESS: ends the IKE SA with that peer. end_child N ADDRESS: one child of it.
forget() {
	case $IKE in
	strongswan)
		was=$(lab-ike "$1" log | grep -c 'removed vici connection' || true)
		lab-hv "$1" swanctl --load-all --clear --noprompt >/tmp/forgotten 2>&1
		[ "$(lab-ike "$1" log | grep -c 'removed vici connection')" -gt "$was" ]
		;;
	libreswan) for c in $(conns "$1"); do whack "$1" --name "$c" --delete >/tmp/forgotten 2>&1; done ;;
	esac
}
end_ike() {
	case $IKE in
	strongswan) lab-hv "$1" swanctl --terminate --ike "$(conns "$1" "$2")" ;;
	libreswan)
		[ -n "$(conns "$1" "$2")" ] || return 1
		for c in $(conns "$1" "$2"); do whack "$1" --name "$c" --terminate; done
		;;
	esac >/tmp/ended 2>&1
}
end_child() {
	case $IKE in
	strongswan) lab-hv "$1" swanctl --terminate --child "$(conns "$1" "$2")-out" ;;
	libreswan) whack "$1" --name "$(conns "$1" "$2" | head -n 1)" --terminate ;;
	esac >/tmp/ended 2>&1
}
# attempts N ADDRESS: how often the IKE daemon of hypervisor N has begun with that peer.
attempts() { lab-ike "$1" log | grep -cE "initiating IKE.* to $2( |$)" || true; }
# knows N FILE: the IKE daemon of hypervisor N has the certificate of that file.
knows() {
	serial=$(openssl x509 -in "$2" -noout -serial | sed 's/.*=//')
	case $IKE in
	strongswan) lab-hv "$1" swanctl --list-certs --type x509 2>/dev/null | awk '$1 == "serial:" { gsub(":", ""); print $2 }' ;;
	libreswan)
		lab-hv "$1" sh -c 'certutil -L -d /var/lib/ipsec/nss | awk "NF > 1 && \$NF ~ /,/ { print \$1 }" |
			while read -r n; do certutil -L -d /var/lib/ipsec/nss -a -n "$n" | openssl x509 -noout -serial | sed "s/.*=//"; done'
		;;
	esac | grep -qi "^0*$serial\$"
}

# differ N: hypervisor N has an SA that it did not have.
differ() { sas "$1" >/tmp/now; [ -n "$(comm -23 /tmp/now "/tmp/before$1")" ]; }

# pluto_conn N out|in PEER: what pluto of hypervisor N calls that half of the pair with
# PEER and UDP port 4789.
pluto_conn() {
	whack "$1" --status | sed -n "s/^\"\(oio-[^\"]*-$2\)\": .*===\([^ ]*\)\.\.\.$3===.*/\1/p" | while read -r c; do
		lab-hv "$1" grep -l 'protoport=udp/4789$' "/run/ovs-ipsec-offload/pluto/$c.conf" | sed 's|.*/||; s|\.conf$||'
	done
}
# pluto_rekey N PEER: its outbound child SA is replaced.
pluto_rekey() { whack "$1" --rekey-child --asynchronous --name "$(pluto_conn "$1" out "$2")" >/dev/null; }

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
# ours, offloaded, and never clear. By psk over IPv4 and IPv6, and then by certificates
# of a CA (a host of ovs-monitor-ipsec has one form for all of its tunnels). Both sides
# start again.
stock_peer() {
	lab-ike 1 start
	daemon_start 1
	say "hv2: $1"
	lab-ike 2 start "$1"
	port 2 vx0 4 key=100 psk=swordfish
	port 1 vx0 4 key=100 psk=swordfish ipsec_peer=ovs-monitor-ipsec
	for n in 1 2; do steer $n vx0; done # two tunnels of two bridges are a loop
	port 2 vx6 6 key=100 psk=swordfish
	port 1 vx6 6 key=100 psk=swordfish ipsec_peer=ovs-monitor-ipsec
	for p in vx0 vx6; do
		encrypted $p 1
		carried $p 1
	done
	must "hv1: every SA is in the NIC" all_offloaded 1

	say "hv1's IKE daemon and ours start again"
	lab-ike 1 stop
	daemon_stop 1
	daemon_start 1
	lab-ike 1 start
	for p in vx0 vx6; do encrypted $p 1; done
	eventually 30 "overlay answers over vx6" reaches 1 192.168.7.2

	say "hv2's stops and starts again, with the script"
	lab-ike 2 stop
	lab-ike 2 start "$1"
	for p in vx0 vx6; do
		for n in 1 2; do steer $n $p; done
		eventually 40 "overlay answers over $p" reaches 1 192.168.7.2
		encrypted $p 1
	done
	carried vx0 1
	no_clear 1
}
