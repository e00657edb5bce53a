#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A psk in the database and an IKE daemon: two ports by ovs-vsctl become encrypted
# and offloaded, over IPv4 and IPv6. Established SAs survive additions, another UDP
# port is encrypted too, and a port that chooses its peers by flow is refused.
. "$(dirname "$0")/ike.sh"
lab-wire start 4790
say "IPv4: charon of hv1 runs before the daemon, that of hv2 comes last"
lab-ike 1 start
daemon_start 1
daemon_start 2
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish; steer $n vx0; done
must "blocked while hv2 has no IKE daemon" test "$(state 2 vx0)" = blocked
note "hv2: $(problem 2 vx0)"
lab-vm 1 ping -q -c 3 -i 0.2 -W 1 192.168.7.2 >/dev/null && fail "traffic without IPsec"
from=$(cut -d. -f1 /proc/uptime)
lab-ike 2 start
encrypted vx0
note "encrypted $(($(cut -d. -f1 /proc/uptime) - from)) s after the IKE daemon started"
carried vx0
for n in 1 2; do
	must "hv$n: every SA is in the NIC" all_offloaded $n
	sas $n >/tmp/sas$n
done

say "IPv6, beside it"
for n in 1 2; do port $n vx6 6 key=100 psk=flounder; done
encrypted vx6
carried vx6

say "UDP port 4790, beside both"
for n in 1 2; do port $n vx4790 4 key=100 psk=swordfish dst_port=4790; done
encrypted vx4790
carried vx4790
for n in 1 2; do must "hv$n: every SA is in the NIC" all_offloaded $n; done

say "a port that chooses its peers by flow"
lab-hv 1 ovs-vsctl add-port br-int vxf -- set interface vxf type=vxlan options:remote_ip=flow options:local_ip=10.0.0.1 \
	options:key=flow options:dst_port=4791 options:psk=swordfish
eventually 10 "refused: OPT_REMOTE_IP" problem_is 1 vxf OPT_REMOTE_IP
encrypted vx0
carried vx0
for n in 1 2; do
	sas $n >/tmp/now
	must "hv$n: the SAs of the first port are the very same" contains /tmp/now /tmp/sas$n
done
wire_was_esp
no_clear
