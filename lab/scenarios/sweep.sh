#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: --daemon-tags faultpoint --timeout 7200
# The daemon of hv1 is killed at its steps, in a story with traffic: a tunnel comes,
# gets new keys, another comes and goes, the NIC's tables are lost, the host is parked
# and unparked, the tunnel goes. The daemon dies before and after SHARE percent of the
# steps, once each, within one play. Then it dies once in a play: at POINTS places, or
# with POINTS=all before and after every step. SEED chooses steps and places.
. "$(dirname "$0")/lib.sh"
share=${SHARE:-20} points=${POINTS:-0} seed=${SEED:-1}
note "SEED=$seed"
trap 'rm -f /tmp/alive; kill $(jobs -p) 2>/dev/null || true' EXIT

# supervised keeps the daemon of hv1 alive, as systemd does. What /tmp/fault says
# goes to it; a fault of one place is used up by the first start.
supervised() {
	while [ -e /tmp/alive ]; do
		fault=$(cat /tmp/fault)
		case $fault in before:* | after:*) : >/tmp/fault ;; esac
		lab-hv 1 env OVS_IPSEC_FAULT="$fault" ovs-ipsec-offload run --retire-after 1s >>/tmp/daemon1.log 2>&1 &
		echo $! >/tmp/daemon1.pid
		wait $! || echo died >>/tmp/deaths
	done
}
supervise() { echo "$1" >/tmp/fault; : >/tmp/deaths; touch /tmp/alive; supervised 2>/dev/null & supervisor=$!; }
unsupervise() {
	rm -f /tmp/alive
	kill "$(cat /tmp/daemon1.pid)"
	wait $supervisor
}

both_key() {
	key=$(keys 1 2)
	for n in 2 1; do lab-hv $n ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"; done
}
# mended: all is well. A key whose SA may have been installed when the daemon died
# is spent: the operator makes new ones.
mended() {
	case $(state 1 vx0) in
	encrypted) reaches 1 192.168.7.2 && nic_over 1 offloaded_flows 0 ;;
	blocked) [ "$(problem 1 vx0)" != KEY_USED ] || both_key; false ;;
	*) false ;;
	esac
}
idle() { lab-hv 1 ovs-ipsec-offload plan | grep -q '^# nothing to do'; }
at_rest() { eventually 60 "$1" mended; eventually 30 "nothing is left to do" idle; }
says() { [ "$(lab-hv 1 ovs-ipsec-offload status --json | jq -r .state)" = "$1" ]; }
parks() { lab-hv 1 ovs-ipsec-offload park && says parked && nic_is 1 tx_refs 0; }
unparks() { lab-hv 1 ovs-ipsec-offload unpark && ! says parked; }

# chapter NAME: what the last one let out is judged, and the steps of the next are its own.
chapter() {
	[ -z "$title" ] || [ "$title" = "the tables are lost" ] || nic_is 1 tx_clear_vxlan "$clear" ||
		fail "$title: $(($(nic 1 tx_clear_vxlan) - clear)) packets in clear text"
	clear=$(nic 1 tx_clear_vxlan) title=$1
	[ ! -e /tmp/steps ] || { cat /tmp/steps >>/tmp/all; : >/tmp/steps; }
}
# shape says what stands in the kernel of hv1, without what every key set changes.
shape() {
	{ lab-hv 1 ip xfrm policy; lab-hv 1 ip xfrm state | grep '^src' | sed 's/^/SA: /'; } | sed -E 's/(spi|reqid) [^ ]+//g' |
		awk '/^(SA: )?src/ { if (r) print r; r = $0; next } { r = r $0 } END { print r }' | sort
}
as_fresh() { shape >/tmp/shape; diff /tmp/fresh /tmp/shape; }
tunnel_comes() {
	key=$(keys 1 2)
	for n in 2 1; do tunnel $n vx0 10.0.0.$n 10.0.0.$((3 - n)) key=100 ipsec_keys="$key"; done
	for n in 1 2; do eventually 20 "hv$n: traffic goes into the tunnel" steer $n vx0; done
	at_rest "the tunnel is encrypted"
}
tunnel_goes() {
	for n in 1 2; do lab-hv $n ovs-vsctl --no-wait del-port br-int vx0; done
	eventually 60 "no SA is left" sh -c '[ $(lab-hv 1 ip xfrm state | grep -c "^src") = 0 ]'
	eventually 30 "nothing is left to do" idle
}

# story NAME FAULT: the story under a fault; a row of the table.
story() {
	say "$1"
	began=$(cut -d. -f1 /proc/uptime) title='' lost=0
	: >/tmp/all
	supervise "$2"
	chapter "a tunnel comes"
	tunnel_comes
	chapter "new keys"
	both_key
	at_rest "encrypted with other keys"
	chapter "another tunnel comes"
	other=$(ovs-ipsec-offload keys new --pair hv1,nobody --out /tmp/other 2>/dev/null)
	lab-hv 1 install -m 600 "/tmp/other/hv1/$other.json" /etc/ovs-ipsec-offload/keys.d/
	tunnel 1 vx1 10.0.0.1 10.0.0.77 key=200 ipsec_keys="$other"
	eventually 30 "and is encrypted, or its key is spent" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.pairs[] | select(.ports | index(\"vx1\")) | .state == \"encrypted\" or .problem.code == \"KEY_USED\"'"
	at_rest "the first one is well"
	chapter "and goes"
	lab-hv 1 ovs-vsctl --no-wait del-port br-int vx1
	at_rest "the first one is well"
	chapter "the tables are lost"
	lab-hv 1 sh -c 'ip xfrm state flush; ip xfrm policy flush'
	at_rest "the tunnel is encrypted again"
	lost=$(($(nic 1 tx_clear_vxlan) - clear))
	chapter "the host is parked"
	eventually 60 "it is parked" parks
	chapter "and unparked"
	eventually 60 "it is unparked" unparks
	at_rest "the tunnel is encrypted again"
	eventually 20 "old SAs are gone" sh -c '[ $(lab-hv 1 ip xfrm state | grep -c "^src") = 2 ]'
	must "the kernel holds what it holds after a fresh start" as_fresh
	must "flow-limit is unset" sh -c '! lab-hv 1 ovs-vsctl get Open_vSwitch . other_config | grep -q flow-limit'
	must "hw-tc-offload is on" sh -c 'for d in pf0 rep0; do lab-hv 1 ethtool -k $d | grep -q "hw-tc-offload: on" || exit 1; done'
	chapter "the tunnel goes"
	tunnel_goes
	chapter ""
	unsupervise
	must "a fresh start would do nothing" idle
	printf '%-44s %6d %10d %8d\n' "$1" "$(grep -c . /tmp/deaths || true)" "$lost" $(($(cut -d. -f1 /proc/uptime) - began)) >>/tmp/table
}

printf '%-44s %6s %10s %8s\n' "the daemon is killed" times "clear" seconds >/tmp/table
daemon_start 2
lab-vm 1 ping -q -i 0.01 192.168.7.2 >/tmp/ping 2>&1 &

say "a fresh start, for comparison"
supervise ""
tunnel_comes
shape >/tmp/fresh
tunnel_goes
unsupervise

story "before and after $share % of the steps" "$share,$seed:/tmp/steps"
must "it died where it was to die" test "$(grep -c . /tmp/deaths)" -eq "$(grep -c . /tmp/all)"
must "and often" test "$(grep -c . /tmp/deaths)" -ge "$((share / 4))"
if [ "$points" != 0 ]; then
	story "never" log:/tmp/steps
	steps=$(grep -c . /tmp/all)
	places() { for n in $(seq 1 "$steps"); do echo "before:$n"; echo "after:$n"; done; }
	if [ "$points" = all ]; then places; else places | shuffled "$seed" | sed "${points}q"; fi >/tmp/places
	while read -r place <&3; do story "$place" "$place"; done 3</tmp/places
fi
say "SEED=$seed; clear: packets in clear text when the tables were lost, otherwise there was none"
cat /tmp/table
