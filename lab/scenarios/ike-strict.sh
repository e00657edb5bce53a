#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A kernel that takes no SA while flows are in hardware (Linux 6.18): flows are held
# back until the IKE daemon has got through, for a new tunnel and for new keys.
. "$(dirname "$0")/ike.sh"
lab-wire start
say "a tunnel, with flows in hardware, and then the kernel is strict"
for n in 1 2; do daemon_start $n; lab-ike $n start; done
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish; done
encrypted vx0
carried vx0
for n in 1 2; do echo Y >"$(lab-nic $n dir)/strict_sa"; done
stream

say "another one"
for n in 1 2; do port $n vx6 6 key=200 psk=flounder; done
encrypted vx6
for n in 1 2; do eventually 20 "hv$n: flows in hardware again" offloads $n; done

say "new keys for the first"
sas 1 | sort >/tmp/before
lab-hv 1 swanctl --rekey --child "$(children 1 out | head -n 1)" >/dev/null
rekeyed() { sas 1 | sort >/tmp/now; ! cmp -s /tmp/before /tmp/now && [ "$(wc -l </tmp/now)" = "$(wc -l </tmp/before)" ]; }
eventually 60 "other SAs, and as many" rekeyed
for n in 1 2; do eventually 20 "hv$n: flows in hardware again" offloads $n; done
stream_end
must "traffic went on" test "$lost" -lt 40
for n in 1 2; do must "hv$n: every SA is in the NIC" all_offloaded $n; done
wire_was_esp
no_clear
