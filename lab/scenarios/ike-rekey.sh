#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Rekeying under traffic loses nothing: by age (10 s, the option that
# ovs-monitor-ipsec hands to its IKE daemon), and by hand on both ends at once.
. "$(dirname "$0")/ike.sh"
for n in 1 2; do lab-ike $n start; daemon_start $n; done
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish ipsec_salifetime=10; done
encrypted vx0
carried vx0
sas 1 >/tmp/first
esp=$(nic 1 tx_esp)
lab-vm 1 ping -q -i 0.01 -c 3000 -W 2 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
lab-vm 2 iperf3 -s -D -I /tmp/iperf.pid >/dev/null
lab-vm 1 iperf3 -u -b 4M -l 1200 -c 192.168.7.2 -t 20 >/tmp/iperf 2>&1 &
stream=$!

say "by hand, both ends at once"
rekeyed() { sas 1 >/tmp/now; [ -z "$(comm -12 /tmp/now "$1")" ]; }
for i in 1 2 3; do
	sas 1 >/tmp/before
	for n in 1 2; do lab-hv $n swanctl --rekey --child "$(children $n out)" >/dev/null 2>&1 & rekey="${rekey:-} $!"; done
	# shellcheck disable=SC2086
	wait $rekey; rekey=""
	eventually 15 "both directions have new SAs, the old ones are gone" rekeyed /tmp/before
done
say "by age"
sas 1 >/tmp/before
eventually 25 "both directions have new SAs" rekeyed /tmp/before
wait $ping $stream || true
kill "$(tr -d '\0' </tmp/iperf.pid)"
cat /tmp/ping; grep receiver /tmp/iperf
must "no datagram of the stream was lost" grep -q ' 0/[0-9]* (0%) *receiver' /tmp/iperf
must "3000 of 3000 answered" grep -q '3000 received' /tmp/ping
must "counters went on" nic_over 1 tx_esp "$((esp + 4000))"
must "no outbound SA was missing" nic_is 1 tx_sa_miss 0
no_clear
