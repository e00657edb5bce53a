#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# With keys by IKE: this daemon stops, is killed and starts again under traffic, and
# nothing changes. Then a stranger takes states and policies away, of which the IKE
# daemon hears nothing: it is told to make new ones.
. "$(dirname "$0")/ike.sh"
for n in 1 2; do lab-ike $n start; daemon_start $n; done
for n in 1 2; do port $n vx0 4 key=100 psk=swordfish; done
encrypted vx0
carried vx0
sas 1 >/tmp/before

say "TERM and start, KILL and start"
stream
esp=$(nic 1 tx_esp)
daemon_stop 1
eventually 10 "traffic goes on without the daemon" nic_over 1 tx_esp $((esp + 40))
daemon_start 1
eventually 20 "hv1: vx0 encrypted" state_is 1 vx0 encrypted
esp=$(nic 1 tx_esp)
daemon_stop 1 -KILL
eventually 10 "traffic goes on" nic_over 1 tx_esp $((esp + 40))
daemon_start 1
eventually 20 "hv1: vx0 encrypted" state_is 1 vx0 encrypted
# An audit of charon's connections is made every 10 s.
said() { lab-hv 1 ovs-ipsec-offload status --json | jq -e '.pairs[0].ike.phase == "up"' >/dev/null; }
eventually 20 "the IKE daemon was asked" said
stream_end
must "nothing was lost" test "$lost" = 0
sas 1 >/tmp/now
must "SAs are the very same" cmp /tmp/before /tmp/now
no_clear

# flushed WHAT COMMAND...: what becomes of a stranger's flush. The window in which
# packets leave in clear text is that of docs/guarantee.md.
flushed() {
	what=$1; shift
	say "$what flushed on hv1"
	sas 1 >/tmp/before
	clear=$(nic 1 tx_clear_vxlan)
	stream
	lab-hv 1 "$@"
	anew() { sas 1 >/tmp/now; [ -s /tmp/now ] && [ -z "$(comm -12 /tmp/now /tmp/before)" ] && state_is 1 vx0 encrypted; }
	eventually 40 "encrypted by other SAs" anew
	encrypted vx0
	eventually 10 "overlay answers" reaches 3 192.168.7.2
	stream_end
	note "$lost echo requests lost, $(($(nic 1 tx_clear_vxlan) - clear)) packets in clear"
	must "no more than the window of a flush lets out" test $(($(nic 1 tx_clear_vxlan) - clear)) -lt 40
}
flushed states ip xfrm state flush
flushed policies ip xfrm policy flush
flushed "states and policies" sh -c 'ip xfrm state flush; ip xfrm policy flush'
for n in 1 2; do eventually 20 "hv$n: flows in hardware" offloads $n; done
for n in 1 2; do must "hv$n: every SA is in the NIC" all_offloaded $n; done
