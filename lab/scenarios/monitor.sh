#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The daemon in the place of ovs-monitor-ipsec: the real ovs-appctl asks it by
# that name, before and after a kill -9, and ends it.
. "$(dirname "$0")/lib.sh"
ctl() { lab-hv 1 ovs-appctl -T 10 -t ovs-monitor-ipsec "$@"; }
says() { what=$1 text=$2; shift 2; ctl "$@" >/tmp/says 2>&1 || true; grep -qF -- "$text" /tmp/says || { cat /tmp/says; fail "$what"; }; note "$what"; }
shows() { ctl tunnels/show | grep -qF -- "$1"; }
refused() { rc=0; ctl "$@" >/tmp/refused 2>&1 || rc=$?; [ "$rc" = 2 ] || fail "exit code $rc, not 2: $*"; note "exit 2: $* ($(head -n 1 /tmp/refused))"; }
# established PORT: as OVN-Kubernetes reads ipsec/status.
established() { ctl ipsec/status | sed "s/\"/\\\\\"/g; s/'/\"/g" | jq -e --arg p "$1" '.[$p] | has($p + "-in-1") and has($p + "-out-1")' >/dev/null; }
place() { lab-hv 1 sh -c 'ls /run/openvswitch | grep ^ovs-monitor-ipsec' | tr '\n' ' '; }

say "nobody is there"
must "ovs-appctl finds nobody" sh -c '! lab-hv 1 ovs-appctl -t ovs-monitor-ipsec version 2>/dev/null'
daemon_start 1 --monitor-socket=true
says "it is this program" "ovs-monitor-ipsec (ovs-ipsec-offload) " version
says "no tunnels yet" "No tunnels configured with IPsec" tunnels/show
must "ipsec/status is empty" test "$(ctl ipsec/status)" = "{}"

say "a port with keys, one with a psk, one that is refused"
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 key=100 ipsec_keys="$key"
tunnel 1 vx1 10.0.0.1 10.0.0.3 psk=swordfish
tunnel 1 vx2 10.0.0.1 10.0.0.4 psk=swordfish remote_name=hv4
eventually 20 "vx0 is encrypted" established vx0
eventually 10 "vx0 has its OpenFlow port" sh -c "lab-hv 1 ovs-appctl -t ovs-monitor-ipsec tunnels/show | grep -A 16 '^Interface name: vx0 ' | grep -Eq 'Ofport: +[0-9]+'"
ctl tunnels/show
says "vx0 is configured" "Interface name: vx0 v1 (CONFIGURED)" tunnels/show
says "and encrypted" "IPsec state:    encrypted by pf0" tunnels/show
says "a psk is not shown" "PSK:            (secret)" tunnels/show
says "what is wrong is" "Interface name: vx2 v1 (INVALID: " tunnels/show
lab-hv 1 ip xfrm policy | grep '^src' | sed 's/ *$//' | while read -r selector; do
	says "policy $selector" "$selector" xfrm/policies
done
for spi in $(spis 1); do [ "$spi" = spi ] || says "SA $spi" "$spi" xfrm/state; done
refused tunnels/show please
refused nosuch
must "refresh" ctl refresh
lab-hv 1 ovs-vsctl --no-wait set interface vx1 options:psk=marlin
eventually 10 "another psk is another version" shows "Interface name: vx1 v2 (CONFIGURED)"

say "no secret in any answer"
for c in tunnels/show ipsec/status xfrm/policies xfrm/state list-commands vlog/list; do ctl "$c"; done >/tmp/all
for s in swordfish marlin $(lab-hv 1 cat "/etc/ovs-ipsec-offload/keys.d/$key.json" | jq -r '.out.key, .in.key'); do
	grep -qi -- "$s" /tmp/all /tmp/daemon1.log && fail "a secret was printed"
done
note "none in $(wc -c </tmp/all) bytes"

say "its pid file keeps ovs-monitor-ipsec away, and is no rival to itself"
must "the pid file is locked" lab-hv 1 python3 -c '
import fcntl
try: fcntl.lockf(open("/run/openvswitch/ovs-monitor-ipsec.pid", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError: raise SystemExit(0)
raise SystemExit(1)'
must "the state has no rival" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '[.problems[].code] | index(\"OWNER_RIVAL\") == null' >/dev/null"

say "killed, and started again"
daemon_stop 1 -KILL
must "ovs-appctl finds nobody" sh -c '! lab-hv 1 ovs-appctl -t ovs-monitor-ipsec version 2>/dev/null'
daemon_start 1 --monitor-socket=true
eventually 10 "vx0 is encrypted" established vx0
pid=$(cat /tmp/daemon1.pid)
must "nothing of the killed one is left" test "$(place)" = "ovs-monitor-ipsec.$pid.ctl ovs-monitor-ipsec.pid "

say "exit tears nothing down"
refused exit --cleanup
before=$(spis 1)
says "it says so" "tears nothing down" exit
rc=0; wait "$pid" || rc=$?
must "exit code 0" test "$rc" = 0
must "no pid file, no socket" test "$(place)" = ""
must "the same SAs" test "$(spis 1)" = "$before"
must "the tables stand" nic_is 1 tx_tables 1
no_clear 1
