#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lab: --timeout 900
# Every way in which the NIC's tables or what is in them can be lost while flows
# are offloaded and traffic passes: what gets out in clear, for how long, and how
# long it takes until all is well again. The table is that of docs/guarantee.md.
# CONTRACTS="4 6 4s 6s" plays IPv4 and IPv6, and both on a strict kernel (6.18).
. "$(dirname "$0")/lib.sh"
here=$(dirname "$0")
daemon_start 1
daemon_start 2
lab-vm 1 ping -q -i 0.002 192.168.7.2 >/tmp/ping 2>&1 &
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

# rekey gives the tunnel new keys on both ends.
rekey() {
	key=$(keys 1 2)
	tunnel 1 vx0 "$from" "$to" key=100 ipsec_keys="$key"
	tunnel 2 vx0 "$to" "$from" key=100 ipsec_keys="$key"
	lab-hv 1 ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"
	lab-hv 2 ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"
}
# renew does the same where the ports are there, on both ends at once. An end whose peer
# sends already may have its inbound SA taken and its outbound one refused, and does not
# ask then whether its NIC is strict (askStrict).
renew() {
	key=$(keys 1 2)
	lab-hv 1 ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key" & first=$!
	lab-hv 2 ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"
	wait $first
}
whole() { state_is 1 vx0 encrypted && reaches 1 192.168.7.2 && nic_over 1 offloaded_flows 0; }
# mend waits until the pair says that it needs new keys or is encrypted, gives it
# keys in the first case, and waits until all is well.
settled() { case $(state 1 vx0) in encrypted) whole ;; blocked) [ "$(problem 1 vx0)" = KEY_USED ] ;; *) false ;; esac; }
mend() {
	say "$1"
	eventually 30 "encrypted again, or blocked for want of keys" settled
	[ "$(state 1 vx0)" = encrypted ] || renew
	eventually 30 "whole" whole
}

# cause NAME LIMIT CMD...: the command strikes; at most LIMIT packets may get out.
cause() {
	lost=$1 most=$2; shift 2
	eventually 30 "before: whole" whole
	python3 "$here/sample.py" watch "$(lab-nic 1 dir)/state" /tmp/samples & sampler=$!
	eventually 10 "sampling" test -s /tmp/samples
	began=$(cut -d. -f1 /proc/uptime)
	python3 "$here/sample.py" mark /tmp/samples "$@"
	mend "$lost"
	ended=$(cut -d. -f1 /proc/uptime)
	kill $sampler; wait $sampler 2>/dev/null || true
	read -r clear last shut esp < <(python3 "$here/sample.py" row /tmp/samples)
	rm -f /tmp/samples
	printf '%-4s %-34s %8d %10d %10d %10d %8d\n' "$contract" "$lost" "$clear" "$last" "$shut" "$esp" $((ended - began)) >>/tmp/table
	[ "$clear" -le "$most" ] || fail "$lost: $clear packets in clear text, at most $most are allowed for"
}

printf '%-4s %-34s %8s %10s %10s %10s %8s\n' on "what is lost" clear "last ms" "drained ms" "ESP ms" "whole s" >/tmp/table
for contract in ${CONTRACTS:-4 6s}; do
	# IPv6 addresses go when the device goes down: the network set-up brings them back.
	again="ip address replace fd00::1/64 dev pf0 nodad"
	case $contract in 4*) from=10.0.0.1 to=10.0.0.2 ;; 6*) from=fd00::1 to=fd00::2 ;; esac
	strict=N; [ "${contract#?}" = s ] && strict=Y
	for n in 1 2; do echo $strict >"$(lab-nic $n dir)/strict_sa"; done
	say "contract $contract"
	rekey
	for n in 1 2; do steer $n vx0; done
	eventually 60 "whole" whole
	cause "the guards"                   0 lab-hv 1 ip xfrm policy deleteall dir out action block
	cause "policies (flush)"           400 lab-hv 1 ip xfrm policy flush
	cause "states (flush)"             400 lab-hv 1 ip xfrm state flush
	cause "states and policies (flush)" 400 lab-hv 1 sh -c 'ip xfrm state flush; ip xfrm policy flush'
	cause "PF down and up"             400 lab-hv 1 sh -c "ip link set pf0 down; ip link set pf0 up; $again"
	cause "the link (wire down and up)"  0 sh -c 'lab-hv 1 ip link set wire1 down; lab-hv 1 ip link set wire1 up'
	cause "ovs-vswitchd (killed)"        0 sh -c 'lab-hv 1 sh -c "kill -9 \$(cat /run/openvswitch/ovs-vswitchd.pid)"; lab-ovs 1 start-switch'
	for n in 1 2; do lab-hv $n ovs-vsctl del-port br-int vx0; done
	eventually 40 "SAs are gone" sh -c "[ \$(lab-hv 1 ip xfrm state | grep -c '^src') = 0 ]"
done
say "what was lost, and what followed (clear: packets that left the NIC in clear text)"
cat /tmp/table
