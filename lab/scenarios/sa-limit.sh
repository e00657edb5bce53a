#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --param max_rx_sa=3
# A card with room for three inbound SAs, and five tunnels: three are encrypted,
# two blocked and named; when one goes, the next comes by itself.
. "$(dirname "$0")/lib.sh"

daemon_start 1 --retire-after 1s
eventually 10 "the guards hold the tables" nic_is 1 tx_tables 1

say "five tunnels"
for i in 1 2 3 4 5; do
	tunnel 1 "vx$i" 10.0.0.1 "10.0.0.1$i" key="$i" ipsec_keys="$(keys 1 2)"
done
count() { [ "$(lab-hv 1 ovs-ipsec-offload status --json | jq --arg s "$1" '[.pairs[] | select(.state == $s)] | length')" = "$2" ]; }
eventually 15 "three are encrypted" count encrypted 3
must "two are blocked" count blocked 2
must "the NIC holds three inbound SAs" nic_is 1 rx_states 3
for p in vx1 vx2 vx3 vx4 vx5; do
	state_is 1 $p encrypted && continue
	must "$p: NIC_SA_LIMIT" problem_is 1 $p NIC_SA_LIMIT
	note "$(lab-hv 1 ovs-ipsec-offload status --json | jq -r --arg p $p '.ports[] | select(.name == $p) | .problems[0].text')"
	last=$p
done
eventually 5 "the database says so" sh -c "lab-hv 1 ovs-vsctl get interface $last external_ids | grep -q NIC_SA_LIMIT"

say "one goes"
gone=vx1
state_is 1 vx1 encrypted || gone=vx5
lab-hv 1 ovs-vsctl del-port br-int $gone
eventually 15 "a fourth is encrypted" sh -c "[ \"\$(lab-hv 1 ovs-ipsec-offload status --json | jq '[.pairs[] | select(.state == \"encrypted\")] | length')\" = 3 ]"
must "one is still blocked" count blocked 1
must "the NIC holds three inbound SAs" nic_is 1 rx_states 3

say "a change of keys at the limit keeps what stands"
p=$(lab-hv 1 ovs-ipsec-offload status --json | jq -r '[.pairs[] | select(.state == "encrypted")][0].ports[0]')
before=$(spis 1)
lab-hv 1 ovs-vsctl set interface "$p" options:ipsec_keys="${anew:=$(keys 1 2)}"
eventually 10 "$p waits for room" problem_is 1 "$p" NIC_SA_LIMIT
must "$p is still encrypted" state_is 1 "$p" encrypted
[ "$(spis 1)" = "$before" ] || fail "SAs were $before, and are $(spis 1)"
note "the same SAs stand"

say "another goes: the new keys come first"
q=$(lab-hv 1 ovs-ipsec-offload status --json | jq -r --arg p "$p" '[.pairs[] | select(.state == "encrypted" and (.ports | index($p) | not))][0].ports[0]')
lab-hv 1 ovs-vsctl del-port br-int "$q"
eventually 15 "$p has its new keys" problem_is 1 "$p" none
# The peer does not exist, so only the operator can say that it has the new keys.
# Then the old inbound SA goes, though nobody was heard: others want its room.
lab-hv 1 ovs-ipsec-offload keys rotate "$p" "$anew" --now
eventually 30 "all that are left are encrypted" count blocked 0
must "no key was lost on a refusal" sh -c "! lab-hv 1 ovs-ipsec-offload status --json | grep -q KEY_USED"
note "$(grep -c 'pair failed' /tmp/daemon1.log || true) failed pairs in the log"
no_clear 1
