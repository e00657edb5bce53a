#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# libreswan at hv1, strongSwan at hv2, this program at both: psk, additions, and a
# rekey from both ends under traffic.
. "$(dirname "$0")/ike.sh"
lab-wire start
lab-ike 1 start libreswan
lab-ike 2 start
for n in 1 2; do daemon_start $n; done
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish; port $n vx6 6 key=106 psk=swordfish6; done
encrypted vx0
encrypted vx6
carried vx6
carried vx0
for n in 1 2; do must "hv$n: every SA is in the NIC" all_offloaded $n; done
stream
before
pluto_rekey 1 10.0.0.2
for c in $(children 2 out); do lab-hv 2 swanctl --rekey --child "$c" >/dev/null 2>&1; done
eventually 20 "new SAs" differ 1
sleep 1
stream_end
must "nothing was lost" test "$lost" = 0
wire_was_esp
no_clear
