#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --timeout 1500
# not in make test: make soak
# Rekeying under traffic loses nothing, over IPv4 and IPv6 at once: by hand on both ends
# at once, and by age, the option that ovs-monitor-ipsec hands to its IKE daemon: 10 s,
# or 30 s when SOAK_SECONDS says how long it all lasts.
. "$(dirname "$0")/ike.sh"
seconds=${SOAK_SECONDS:-30} age=10
[ -z "${SOAK_SECONDS:-}" ] || age=30
for n in 1 2; do lab-ike $n start; daemon_start $n; done
for n in 1 2; do
	port $n vx4 4 key=4 psk=swordfish ipsec_salifetime=$age
	port $n vx6 6 key=6 psk=flounder ipsec_salifetime=$age
done
encrypted vx4
encrypted vx6
# What the VMs send by IPv6 goes through the tunnel over IPv6.
for n in 1 2; do
	lab-hv $n ovs-ofctl del-flows br-int
	for f in "in_port=rep0,actions=output:vx4" "in_port=rep0,priority=40000,ipv6,actions=output:vx6" \
		in_port=vx4,actions=output:rep0 in_port=vx6,actions=output:rep0; do lab-hv $n ovs-ofctl add-flow br-int $f; done
done
for a in 192.168.7.2 fd07::2; do
	eventually 20 "$a answers" reaches 1 $a
	for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n $a; done
done
lab-wire start
counts_begin
esp=$(nic 1 tx_esp)
made() { lab-ike 1 log | grep -c 'CHILD_SA .* established'; }
first=$(made)
lab-vm 1 ping -q -i 0.02 -c $((seconds * 40)) -W 2 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
for a in 192.168.7.2 fd07::2; do blast $a "$seconds"; done

say "by hand, both ends at once"
# An inbound SA stays for 5 s after it was replaced, so there may be more than 8.
rekeyed() { sas 1 >/tmp/now; [ "$(wc -l </tmp/now)" -ge 8 ] && [ -z "$(comm -12 /tmp/now /tmp/before1)" ]; }
for i in 1 2; do
	before
	rekey=""
	for n in 1 2; do for c in $(children $n out); do lab-hv $n swanctl --rekey --child "$c" >/dev/null 2>&1 & rekey="$rekey $!"; done; done
	# shellcheck disable=SC2086
	wait $rekey
	eventually 20 "both directions of both have new SAs, the old ones are gone" rekeyed
done
say "by age, $seconds s in all"
before
eventually $((age * 2 + 10)) "both directions of both have new SAs" rekeyed
for a in 192.168.7.2 fd07::2; do blasted $a $((seconds * 20)); done
wait $ping || true
tail -n 3 /tmp/ping
must "every echo request was answered" grep -q " $((seconds * 40)) received" /tmp/ping
rekeys=$(($(made) - first))
note "$rekeys child SAs were made anew on hv1"
# Two children of each of two pairs by hand twice; and by age, which is up to a sixth less.
must "as many as there had to be" test $rekeys -ge $((8 + 4 * (seconds - 20) / (age + 5)))
counts_end
must "the NIC encrypted it all" test $(($(nic 1 tx_esp) - esp)) -ge $((seconds * 40))
for n in 1 2; do must "hv$n: no outbound SA was missing" nic_is $n tx_sa_miss 0; done
wire_was_esp
no_clear
