#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --param rx_policy_after_decrypt=1
# The leak meter: no alarm under load, rekeying and churn; an alarm with the pair's
# name within one audit period when the card lets clear text out, on both ends;
# what on_leak=block does; the figure against the NIC's own; and how much is said
# to have leaked while the daemon was stopped.
. "$(dirname "$0")/lib.sh"
every=9 # seconds; audit_every

json() { lab-hv "$1" ovs-ipsec-offload status --json | jq -r "$2"; }
leak() { json "$1" ".pairs[] | select(.ports | index(\"vx0\")) | .leak.$2 // 0"; }
meter() { json "$1" ".pfs[0].meter.$2 // 0"; }
compared() { [ "$(meter "$1" compared)" != "$2" ]; }
# comparisons N COUNT: waits until the meter of hvN has compared COUNT times more.
comparisons() {
	for _ in $(seq "$2"); do
		last=$(meter "$1" compared)
		eventually $((2 * every)) "hv$1: flows were compared" compared "$1" "$last"
	done
}
fault() { echo "$2" >"$(lab-nic "$1" dir)/lose_tx_sa"; }
retired() { [ "$(lab-hv "$1" ip xfrm state | grep -c ^src)" = 2 ]; }
quiet_logs() { ! grep -h LEAK_ /tmp/daemon1.log /tmp/daemon2.log; }
rekey() {
	key=$(keys 1 2)
	for n in 2 1; do lab-hv $n ovs-vsctl --no-wait set interface vx0 options:ipsec_keys="$key"; done
}

for n in 1 2; do daemon_start $n --audit-every ${every}s; done
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key"
for n in 1 2; do steer $n vx0; eventually 20 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
eventually 10 "overlay answers" reaches 1 192.168.7.2
lab-vm 1 ping -q -i 0.05 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
for n in 1 2; do eventually 10 "hv$n: flows in hardware" nic_over $n offloaded_flows 0; done

say "load, new keys and churn: no alarm"
lab-vm 2 iperf3 -s -D -I /tmp/iperf.pid >/dev/null
lab-vm 1 iperf3 -c 192.168.7.2 -t "${SECONDS_EACH:-8}" -M 1300 >/tmp/iperf 2>&1 &
iperf=$!
for _ in 1 2; do
	rekey
	for i in 1 2 3; do
		lab-hv 1 ovs-vsctl --no-wait add-port br-int t$i -- set interface t$i type=vxlan options:local_ip=10.0.0.1 options:remote_ip=10.0.1.$i options:key=$i options:ipsec_keys=none
		lab-hv 1 ovs-vsctl --no-wait del-port br-int t$i
	done
done
wait $iperf || { cat /tmp/iperf; fail "iperf3"; }
grep -E 'sender|receiver' /tmp/iperf
kill "$(tr -d '\0' </tmp/iperf.pid)"
# A comparison in which an SA went, and with it its count, begins anew.
for n in 1 2; do eventually 30 "hv$n: the old SAs are gone" retired $n; done
comparisons 1 2
must "no alarm" quiet_logs
no_clear
for n in 1 2; do note "hv$n: into tunnels $(meter $n encap), encrypted $(meter $n encrypted), dropped $(meter $n dropped), leaked $(meter $n leaked)"; done
must "the meter counted the load" test "$(meter 1 encap)" -gt 1000

say "the card loses its outbound SAs, which no driver sees"
start=$(date +%s)
fault 1 Y
eventually $((2 * every)) "hv1: vx0 leaks" problem_is 1 vx0 LEAK_OUT
line=$(grep -m1 LEAK_OUT /tmp/daemon1.log)
took=$(($(date -d "$(echo "$line" | sed 's/.*time=\([^ ]*\).*/\1/')" +%s) - start))
must "found after $took s, audit_every is $every s" test "$took" -le $((every + 1)) # whole seconds
case $line in *'10.0.0.1 > 10.0.0.2 udp 4789'*) note "the alarm names the pair" ;; *) fail "$line" ;; esac
must "state leaking" state_is 1 vx0 leaking
must "the host is unsafe" test "$(json 1 .state)" = unsafe
eventually 5 "code in external_ids" sh -c "lab-hv 1 ovs-vsctl get interface vx0 external_ids | grep -q LEAK_OUT"
eventually $((2 * every)) "hv2: clear text came in" problem_is 2 vx0 LEAK_IN

say "on_leak=block"
lab-hv 1 mkdir -p /etc/ovs-ipsec-offload
lab-hv 1 sh -c 'echo "on_leak: block" >/etc/ovs-ipsec-offload/config.yaml'
kill -HUP "$(cat /tmp/daemon1.pid)"
blocks() { ! lab-hv 1 ip xfrm policy | grep -A1 'dst 10.0.0.2/32' | grep -q 'dir out'; }
eventually $((2 * every)) "hv1: vx0's policy is gone" blocks
sent=$(nic 1 tx_clear_vxlan) dropped=$(nic 1 tx_blocked)
eventually 10 "the NIC drops what comes" nic_over 1 tx_blocked $((dropped + 40))
must "and no more leaves in clear" nic_is 1 tx_clear_vxlan "$sent"
kill -INT $ping; wait $ping || true
comparisons 1 2
came=$(nic 2 rx_clear_vxlan)
note "hv1: the NIC sent $sent in clear, the meter says $(leak 1 out) at least; hv2: $came came in, the meter says $(leak 2 in) at least"
must "never more than leaked" test "$(leak 1 out)" -le "$sent" -a "$(leak 2 in)" -le "$came"
must "and not 80 packets less (2.5 s of the pair's traffic, both ways)" test "$(leak 1 out)" -ge $((sent - 80)) -a "$(leak 2 in)" -ge $((came - 80))
eventually $((3 * every)) "vx0 is blocked" state_is 1 vx0 blocked
must "and says why" problem_is 1 vx0 LEAK_OUT
fault 1 N
rekey
eventually 20 "new keys lift it" state_is 1 vx0 encrypted
eventually 10 "overlay answers" reaches 5 192.168.7.2

say "an SA is deleted while the daemon is stopped: how much was it?"
lab-vm 1 ping -q -i 0.05 192.168.7.2 >/tmp/ping 2>&1 &
ping=$!
before=$(nic 1 tx_clear_vxlan) most=$(leak 1 exposed_at_most)
kill -STOP "$(cat /tmp/daemon1.pid)"
for s in $(lab-hv 1 ip xfrm state | awk '$1 == "src" { out = $2 == "10.0.0.1" } out && /spi/ { for (i = 1; i < NF; i++) if ($i == "spi") print $(i+1) }'); do
	lab-hv 1 ip xfrm state delete src 10.0.0.1 dst 10.0.0.2 proto esp spi "$s"
done
eventually 40 "clear text leaves" nic_over 1 tx_clear_vxlan $((before + 100))
kill -CONT "$(cat /tmp/daemon1.pid)"
eventually 10 "hv1: blocked" state_is 1 vx0 blocked
sent=$(($(nic 1 tx_clear_vxlan) - before))
said() { [ "$(leak 1 exposed_at_most)" -gt "$most" ]; }
eventually $((2 * every)) "and told" said
most=$(($(leak 1 exposed_at_most) - most))
kill -INT $ping; wait $ping || true
note "the NIC sent $sent in clear, the meter says up to $most"
must "the bound holds" test "$sent" -le "$most"
must "and is near (two audit periods of the pair's traffic)" test "$most" -le $((sent + 40 * every))
lab-hv 1 ovs-ipsec-offload status
