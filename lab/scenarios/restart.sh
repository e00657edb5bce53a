#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The daemon stops, is killed and starts again under traffic: no packet is lost,
# no SA or policy changes, counters go on.
. "$(dirname "$0")/lib.sh"
daemon_start 1
daemon_start 2
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"
for n in 1 2; do steer $n vx0; eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
eventually 10 "overlay answers" reaches 1 192.168.7.2
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done

objects() { { lab-hv "$1" ip xfrm state | grep -E '^src|proto esp'; lab-hv "$1" ip xfrm policy | grep -vE '^\s*lifetime'; } | sort; }
objects 1 >/tmp/before
esp=$(nic 1 tx_esp)

say "600 echo requests beside a stream of 4 Mbit/s; meanwhile: TERM and start, KILL and start"
lab-vm 1 ping -q -i 0.05 -c 600 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
lab-vm 2 iperf3 -s -D -I /tmp/iperf.pid >/dev/null
lab-vm 1 iperf3 -u -b 4M -l 1200 -c 192.168.7.2 -t 20 >/tmp/iperf 2>&1 &
stream=$!
eventually 10 "traffic flows" nic_over 1 tx_esp "$((esp + 20))"
daemon_stop 1
eventually 10 "traffic goes on without the daemon" nic_over 1 tx_esp "$((esp + 60))"
daemon_start 1
eventually 20 "hv1: vx0 encrypted" state_is 1 vx0 encrypted
daemon_stop 1 -KILL
eventually 10 "traffic goes on" nic_over 1 tx_esp "$((esp + 120))"
daemon_start 1
eventually 20 "hv1: vx0 encrypted" state_is 1 vx0 encrypted
wait $ping $stream || true
kill "$(tr -d '\0' </tmp/iperf.pid)"
cat /tmp/ping; grep receiver /tmp/iperf
must "no datagram of the stream was lost" grep -q ' 0/[0-9]* (0%) *receiver' /tmp/iperf
must "600 of 600 answered" grep -q '600 received' /tmp/ping
objects 1 >/tmp/after
must "SAs and policies are the very same" cmp /tmp/before /tmp/after
must "counters went on" nic_over 1 tx_esp "$((esp + 590))"
no_clear
