#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tunnels come, change and go while the daemon runs; bad ones beside good ones;
# fifty in one transaction; the last one goes and one comes back.
. "$(dirname "$0")/lib.sh"
daemon_start 1
daemon_start 2

say "a first tunnel, with the VM talking from before it exists"
lab-vm 1 ping -q -i 0.05 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"
for n in 1 2; do steer $n vx0; eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
eventually 10 "overlay answers" reaches 1 192.168.7.2
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done
no_clear

say "new keys for the running tunnel"
key=$(keys 1 2)
for n in 2 1; do lab-hv $n ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"; done
keys_are() { lab-hv "$1" ovs-ipsec-offload status --json | jq -e --arg k "$2" '.pairs[] | select(.keys == $k and .state == "encrypted")' >/dev/null; }
for n in 1 2; do eventually 20 "hv$n: encrypted with $key" keys_are $n "$key"; done
eventually 10 "overlay answers" reaches 5 192.168.7.2
no_clear

say "bad ports beside the good one"
lab-hv 1 ovs-vsctl --no-wait \
	-- add-port br-int bad1 -- set interface bad1 type=vxlan options:remote_ip=10.0.0.77 options:local_ip=10.0.0.1 options:ipsec_keys=nosuch \
	-- add-port br-int bad2 -- set interface bad2 type=vxlan options:remote_ip=10.0.0.78 options:local_ip=10.0.0.1 options:ipsec_keys="$key" options:ipsec_colour=red \
	-- add-port br-int bad3 -- set interface bad3 type=vxlan options:remote_ip=flow options:local_ip=10.0.0.1 options:key=7 options:ipsec_keys="$key" \
	-- add-port br-int bad4 -- set interface bad4 type=vxlan options:remote_ip=10.0.0.79 options:local_ip=10.0.0.1 options:psk=swordfish \
	-- add-port br-int bad5 -- set interface bad5 type=vxlan options:remote_ip=10.0.0.80 options:local_ip=10.99.0.1 options:ipsec_keys="$key"
for p in bad1 bad2 bad3 bad4 bad5; do
	eventually 10 "$p has a reason" sh -c "[ \"\$(lab-hv 1 ovs-ipsec-offload status --json | jq -r '.ports[] | select(.name == \"$p\") | .problems[0].code // \"\"')\" != '' ]"
	eventually 10 "$p: reason in external_ids" lab-hv 1 ovs-vsctl get interface $p 'external_ids:"ipsec-offload:reason"'
	note "$p: $(problem 1 $p): $(lab-hv 1 ovs-vsctl get interface $p 'external_ids:"ipsec-offload:reason"')"
done
must "vx0 is still encrypted" state_is 1 vx0 encrypted
must "overlay answers" reaches 5 192.168.7.2
must "no psk in the daemon's log" sh -c '! grep -q swordfish /tmp/daemon1.log'
for p in bad1 bad2 bad3 bad4 bad5; do lab-hv 1 ovs-vsctl del-port br-int $p; done

say "fifty tunnels in one transaction"
args=""
for i in $(seq 1 50); do
	name=$(ovs-ipsec-offload keys new --pair "hv1,peer$i" --out /tmp/fifty 2>/dev/null)
	lab-hv 1 install -m 600 "/tmp/fifty/hv1/$name.json" /etc/ovs-ipsec-offload/keys.d/
	args="$args -- add-port br-int t$i -- set interface t$i type=vxlan options:local_ip=10.0.0.1 options:remote_ip=10.0.1.$i options:key=$i options:ipsec_keys=$name"
done
rm -rf /tmp/fifty
# shellcheck disable=SC2086
lab-hv 1 ovs-vsctl --no-wait $args
encrypted() { [ "$(lab-hv 1 ovs-ipsec-offload status --json | jq '[.pairs[] | select(.state == "encrypted")] | length')" = "$1" ]; }
eventually 30 "51 pairs encrypted" encrypted 51
args=""
for i in $(seq 1 50); do args="$args -- del-port br-int t$i"; done
# shellcheck disable=SC2086
lab-hv 1 ovs-vsctl --no-wait $args
eventually 30 "1 pair left" encrypted 1
eventually 40 "their SAs are gone" sh -c "[ \$(lab-hv 1 ip xfrm state | grep -c '^src') -le 4 ]"
must "overlay answers" reaches 5 192.168.7.2
no_clear

say "the last tunnel goes while flows are in hardware; the guards stay"
for n in 1 2; do nic_over $n offloaded_flows 0 || fail "no flow in hardware"; lab-hv $n ovs-vsctl del-port br-int vx0; done
for n in 1 2; do eventually 40 "hv$n: no SA left" sh -c "[ \$(lab-hv $n ip xfrm state | grep -c '^src') = 0 ]"; done
for n in 1 2; do must "hv$n: tables still stand" nic_is $n tx_tables 1; done

say "and one comes back"
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"
for n in 1 2; do steer $n vx0; eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
eventually 10 "overlay answers" reaches 10 192.168.7.2
for n in 1 2; do eventually 10 "hv$n: flows in hardware" offloads $n; done

say "deleted and added again at once with the same keys: the SA is found again"
lab-hv 1 ovs-vsctl del-port br-int vx0
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
steer 1 vx0
eventually 20 "hv1: vx0 encrypted" state_is 1 vx0 encrypted
eventually 10 "overlay answers" reaches 5 192.168.7.2

say "a lost SA leaves the pair blocked, with the reason and the remedy"
lab-hv 1 ip xfrm state flush
eventually 20 "hv1: vx0 blocked" state_is 1 vx0 blocked
must "code KEY_USED" problem_is 1 vx0 KEY_USED
kill -INT $ping; wait $ping || true
