#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# libreswan at both ends: psk, IPv4, IPv6 and another UDP port; SAs survive additions; a
# rekey under traffic loses next to nothing; nothing is in clear text when an SA goes that
# pluto wants back. What its start does is in docs/ike.md: it flushes everything.
. "$(dirname "$0")/ike.sh"
lab-wire start 4790
for n in 1 2; do lab-ike $n start libreswan; daemon_start $n --ike libreswan; done
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish; done
encrypted vx0
carried vx0
for n in 1 2; do sas $n >/tmp/sas$n; done

say "IPv6, and another UDP port"
for n in 1 2; do port $n vx6 6 key=106 psk=swordfish6; port $n vx1 4 key=101 dst_port=4790 psk=another; done
encrypted vx6
encrypted vx1
carried vx6
carried vx1
carried vx0
for n in 1 2; do
	sas $n >/tmp/now
	must "hv$n: the SAs of the first port are the very same" contains /tmp/now /tmp/sas$n
	must "hv$n: every SA is in the NIC" all_offloaded $n
done

say "rekey, both ends at once, under traffic"
stream
for i in 1 2; do
	sas 1 >/tmp/before
	for n in 1 2; do pluto_rekey $n 10.0.0.$((3 - n)); done
	# two for each of the two children; what they replace may stay for a while
	rekeyed() { sas 1 >/tmp/now; [ "$(comm -13 /tmp/before /tmp/now | wc -l)" -ge 4 ]; }
	eventually 40 "new SAs" rekeyed
done
stream_end
must "at most 2 packets lost" test "$lost" -le 2
wire_was_esp
no_clear

say "the peer's administrator deletes the child SAs"
stream
for c in out in; do whack 2 --delete-child --name "$(pluto_conn 2 $c 10.0.0.1)" >/dev/null || true; done
eventually 60 "overlay answers" reaches 3 192.168.7.2
encrypted vx0
stream_end
no_clear
