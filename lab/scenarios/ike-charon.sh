#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What happens to traffic when an IKE daemon is killed, stopped or started again,
# and when the peer takes a child SA away: it is blocked or it goes on, never clear.
. "$(dirname "$0")/ike.sh"
for n in 1 2; do lab-ike $n start; daemon_start $n; done
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish; done
encrypted vx0
carried vx0

say "charon of hv1 is killed"
before
stream
sleep 2 # some traffic before
lab-ike 1 kill
sleep 2 # and without it
must "all goes on without the daemon" state_is 1 vx0 encrypted
lab-ike 1 start
for n in 1 2; do eventually 30 "hv$n: new SAs, and the dead daemon's are retired" renewed $n; done
encrypted vx0
sleep 1
stream_end
must "at most 2 packets lost" test "$lost" -le 2
no_clear

say "the peer's charon is killed and starts again"
before
stream
lab-ike 2 kill
lab-ike 2 start
for n in 1 2; do eventually 30 "hv$n: new SAs, and the dead daemon's are retired" renewed $n; done
encrypted vx0
sleep 1
stream_end
no_clear

say "charon of hv1 stops, and starts again"
stream
sleep 1
lab-ike 1 stop
eventually 10 "hv1: blocked" state_is 1 vx0 blocked
note "hv1: $(problem 1 vx0)"
lab-ike 1 start
encrypted vx0
sleep 1
stream_end
no_clear

say "the peer's administrator ends the child SAs"
before
stream
sleep 1
for c in out in; do lab-hv 2 swanctl --terminate --child "$(children 2 $c)" >/dev/null 2>&1; done
for n in 1 2; do eventually 30 "hv$n: new SAs" renewed $n; done
encrypted vx0
eventually 10 "overlay answers" reaches 1 192.168.7.2
sleep 1
stream_end
no_clear
