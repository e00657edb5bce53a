#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tunnel mode: refused with encap-mode basic, encrypted with none.
. "$(dirname "$0")/lib.sh"
daemon_start 1
daemon_start 2

say "tunnel mode with encap-mode basic is refused"
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key" ipsec_mode=tunnel
tunnel 2 vx0 10.0.0.2 10.0.0.1 key=100 ipsec_keys="$key" ipsec_mode=tunnel
for n in 1 2; do
	eventually 20 "hv$n: refused: encap-mode" problem_is $n vx0 NIC_TUNNEL_ENCAP
	must "hv$n: blocked" state_is $n vx0 blocked
	steer $n vx0
done
lab-vm 1 ping -q -c 3 -i 0.2 -W 1 192.168.7.2 || true
no_clear

say "with encap-mode none it is encrypted, by the host's VXLAN path"
for n in 1 2; do
	lab-hv $n devlink dev eswitch set "$(lab-hv $n devlink dev | head -n 1 | cut -d: -f1)" encap-mode none
done
lab-wire start
for n in 1 2; do eventually 40 "hv$n: vx0 encrypted" state_is $n vx0 encrypted; done
eventually 10 "overlay answers" reaches 1 192.168.7.2
must "10 of 10 answered" reaches 10 192.168.7.2
lab-wire stop | tee /tmp/wire
must "the wire saw ESP" test "$(awk '$1 == "esp" { print $2 }' /tmp/wire)" -ge 20
must "the wire saw no clear-text VXLAN" grep -qx 'udp4789 0' /tmp/wire
no_clear
must "status says who encapsulates" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.pairs[0].path == \"NIC encrypts, host encapsulates\"' >/dev/null"
lab-hv 1 ovs-ipsec-offload status
