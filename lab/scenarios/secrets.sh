#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Secrets are planted: a psk in the database, one in a file, a private key, a key
# set. No output, no log at any level, no argument, no column that we write and no
# core dump holds any of them.
. "$(dirname "$0")/ike.sh"
. "$(dirname "$0")/pki.sh"
psk=planted-psk-in-the-database-7f3a file=planted-psk-in-a-file-91c2
ca ca
for n in 1 2; do
	daemon_start $n --log-level debug
	lab-ike $n start
	issue ca hv$n hv$n
	identity $n hv$n ca
	lab-hv $n sh -c "umask 077; mkdir -p /etc/ovs-ipsec-offload; echo $file >/etc/ovs-ipsec-offload/psk"
done
key=$(keys 1 2)
planted() {
	printf '%s\n' "$psk" "$file"
	for n in 1 2; do
		lab-hv $n sh -c 'cat /etc/ovs-ipsec-offload/keys.d/*.json' | jq -r '.in.key, .out.key'
		lab-hv $n cat /etc/keys/host.key | grep -v -- -----
	done
}
planted | sort -u | grep . >/tmp/planted
must "there is what to look for" test "$(wc -l </tmp/planted)" -gt 6

say "tunnels of every kind"
# Several tunnels between two bridges that flood would be a loop.
for n in 1 2; do lab-hv $n ovs-ofctl del-flows br-int; done
for n in 1 2; do
	port $n vxp 4 key=1 psk=$psk
	port $n vxf 4 key=1 psk_file=/etc/ovs-ipsec-offload/psk dst_port=4790
	port $n vxc 6 key=1 remote_name=hv$((3 - n))
	port $n vxk 6 key=1 ipsec_keys="$key" dst_port=4790
done
for p in vxp vxf vxc vxk; do encrypted $p; done

say "everything that can be asked"
for n in 1 2; do
	lab-hv $n sh -c "ovs-ipsec-offload status; ovs-ipsec-offload status --json; ovs-ipsec-offload plan" 2>&1
	lab-hv $n ovs-vsctl --columns=external_ids list Interface
	lab-hv $n ovs-vsctl --columns=external_ids list Open_vSwitch
	cat /tmp/daemon$n.log
	lab-ike $n log
	tr '\0' ' ' </proc/"$(cat /tmp/daemon$n.pid)"/cmdline
done >/tmp/asked
ps axww >>/tmp/asked
for f in /proc/[0-9]*/environ; do tr '\0' '\n' <"$f" >>/tmp/asked 2>/dev/null || true; done
must "that is much" test "$(wc -l </tmp/asked)" -gt 200
# What scripts of this scenario have as arguments is not ours.
grep -v 'sh -c umask 077' /tmp/asked | grep -F -n -f /tmp/planted && fail "a secret got out"
note "no secret among $(wc -l </tmp/asked) lines"

say "a core dump"
mkdir -p /tmp/cores
echo '/tmp/cores/%p' >/proc/sys/kernel/core_pattern
for n in 1 2; do daemon_stop $n -ABRT; done
must "there is none" test -z "$(ls /tmp/cores)"
cat /tmp/daemon1.log /tmp/daemon2.log >/tmp/asked
grep -F -n -f /tmp/planted /tmp/asked && fail "a secret got out with the last words"
no_clear
