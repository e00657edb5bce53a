#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One child SA for both directions (ipsec_children=one): two SAs a pair instead of
# four, over IPv4 and IPv6. What a rekey loses then, what becomes of another UDP port
# between the same hosts, and of a peer that wants two children.
. "$(dirname "$0")/ike.sh"
# count N: the SAs of hypervisor N. is_count N COUNT: so many.
count() { lab-hv "$1" ip xfrm state count | awk '{ print $3 }'; }
is_count() { [ "$(count "$1")" = "$2" ]; }

lab-wire start
for n in 1 2; do lab-ike $n start; daemon_start $n; done
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish ipsec_children=one; done
encrypted vx0
carried vx0
for n in 1 2; do
	eventually 20 "hv$n: two SAs" is_count $n 2
	must "hv$n: every SA is in the NIC" all_offloaded $n
done

say "IPv6 beside it, and another UDP port between the same hosts"
for n in 1 2; do port $n vx6 6 key=100 psk=flounder ipsec_children=one; done
encrypted vx6
carried vx6
for n in 1 2; do eventually 20 "hv$n: four SAs" is_count $n 4; done
for n in 1 2; do port $n vx4790 4 key=7 psk=swordfish dst_port=4790; done
for n in 1 2; do eventually 10 "hv$n: refused: IKE_ONE_CHILD" problem_is $n vx4790 IKE_ONE_CHILD; done
encrypted vx0
carried vx0
for n in 1 2; do lab-hv $n ovs-vsctl del-port vx4790; done

wire_was_esp
no_clear

say "states are flushed: the policy for all UDP goes, and new SAs come"
before
lab-hv 1 ip xfrm state flush
fresh() { sas "$1" >/tmp/now; [ -s /tmp/now ] && [ -z "$(comm -12 /tmp/now "/tmp/before$1")" ]; }
for n in 1 2; do eventually 40 "hv$n: new SAs" fresh $n; done
encrypted vx0
encrypted vx6
note "in clear text after the flush: $(nic 1 tx_clear_vxlan) packets"

clear=$(nic 1 tx_clear_vxlan)
say "hv2 wants two children: blocked, and said"
lab-hv 2 ovs-vsctl remove interface vx0 options ipsec_children
eventually 30 "hv1: blocked" state_is 1 vx0 blocked
eventually 30 "hv1: the reason is the peer's" problem_is 1 vx0 IKE_TS
lab-hv 2 ovs-vsctl set interface vx0 options:ipsec_children=one
encrypted vx0
carried vx0

# The last part, since a rekey may lose packets here.
say "rekeys, by age, under traffic"
for n in 1 2; do
	lab-hv $n ovs-vsctl del-port vx0 -- del-port vx6
	eventually 20 "hv$n: no SAs" is_count $n 0
done
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish ipsec_children=one ipsec_salifetime=10; done
encrypted vx0
for n in 1 2; do steer $n vx0; done
eventually 20 "overlay answers over vx0" reaches 1 192.168.7.2
old=$(spis 1)
stream
another() { [ "$(spis 1)" != "$old" ] && is_count 1 2; }
for i in 1 2; do
	eventually 25 "new SAs, the old ones are gone" another
	old=$(spis 1)
done
stream_end
must "at most 3 packets lost a rekey" test "$lost" -le 6
must "nothing in clear text since the flush" test "$(nic 1 tx_clear_vxlan) $(nic 2 tx_clear_vxlan)" = "$clear 0"
