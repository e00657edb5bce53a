#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What happens to traffic when an IKE daemon is killed, stopped or started again,
# also with another certificate, and when the peer takes a child SA away: it is blocked
# or it goes on, never clear.
. "$(dirname "$0")/ike.sh"
. "$(dirname "$0")/pki.sh"
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

say "charon of hv1 stops, and starts again after its certificate has changed"
ca ca
for n in 1 2; do issue ca hv$n hv$n; identity $n hv$n ca; done
before
for n in 1 2; do lab-hv $n ovs-vsctl remove interface vx0 options psk -- set interface vx0 options:remote_name=hv$((3 - n)); done
for n in 1 2; do eventually 40 "hv$n: new SAs, by certificates" renewed $n; done
encrypted vx0
before
stream
sleep 1
lab-ike 1 stop
eventually 10 "hv1: blocked" state_is 1 vx0 blocked
rm $pki/hv1.key
issue ca hv1 hv1
identity 1 hv1 ca
lab-ike 1 start
encrypted vx0
must "hv1's IKE daemon has the new certificate" knows 1 $pki/hv1.crt
for n in 1 2; do must "hv$n: new SAs" renewed $n; done
sleep 1
stream_end
no_clear
