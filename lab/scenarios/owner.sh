#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One owner: the daemon starts neither beside another instance nor beside
# ovs-monitor-ipsec, and sets no pair up beside somebody else's offloaded SA.
. "$(dirname "$0")/lib.sh"

# refused TEXT COMMAND...: the command must end with exit code 1 and say TEXT.
refused() {
	text=$1; shift
	set +e; timeout 20 "$@" >/tmp/refused 2>&1; rc=$?; set -e
	cat /tmp/refused
	[ "$rc" = 1 ] || fail "exit code $rc, not 1: $*"
	grep -q -- "$text" /tmp/refused || fail "does not say \"$text\""
	note "exit 1: $*"
}
# monitor_ipsec: a process that holds its pid file as Open vSwitch's daemons do.
monitor_ipsec() {
	lab-hv 1 python3 -c '
import fcntl, os, signal
f = open("/run/openvswitch/ovs-monitor-ipsec.pid", "w")
fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
print(os.getpid(), file=f, flush=True)
signal.pause()' &
	rival=$!
	eventually 10 "somebody holds the pid file of ovs-monitor-ipsec" sh -c "lab-hv 1 grep -qx $rival /run/openvswitch/ovs-monitor-ipsec.pid"
}
problem_of_host() { lab-hv 1 ovs-ipsec-offload status --json | jq -e --arg c "$1" '[.problems[].code] | index($c) != null' >/dev/null; }

say "ovs-monitor-ipsec runs"
monitor_ipsec
refused OWNER_RIVAL lab-hv 1 ovs-ipsec-offload run
must "nothing was touched" test -z "$(lab-hv 1 ip xfrm policy)"
kill $rival; wait $rival 2>/dev/null || true

say "it is gone; its pid file is not"
daemon_start 1 --audit-every 1s
refused "already running with /run/ovs-ipsec-offload (pid $(cat /tmp/daemon1.pid))" lab-hv 1 ovs-ipsec-offload run
refused "KEY_LEDGER" lab-hv 1 ovs-ipsec-offload run --run-dir /run/other

say "somebody else has an offloaded SA for the pair"
strange="src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x1234"
# shellcheck disable=SC2086
lab-hv 1 ip xfrm state add $strange reqid 99 mode transport flag esn \
	aead 'rfc4106(gcm(aes))' 0x00112233445566778899aabbccddeeff00112233 128 offload packet dev pf0 dir out dir out
tunnel 1 vx0 10.0.0.1 10.0.0.2 ipsec_keys="$(keys 1 2)"
tunnel 1 vx1 10.0.0.1 10.0.0.3 ipsec_keys="$(keys 1 2)"
eventually 20 "the other pair is encrypted" state_is 1 vx1 encrypted
must "vx0 says why not" problem_is 1 vx0 OWNER_FOREIGN_SA
must "and is blocked" state_is 1 vx0 blocked
must "the stranger's SA stands" sh -c "lab-hv 1 ip xfrm state get $strange >/dev/null"
# shellcheck disable=SC2086
lab-hv 1 ip xfrm state delete $strange
eventually 10 "vx0 is encrypted once it is gone" state_is 1 vx0 encrypted

say "ovs-monitor-ipsec starts later"
monitor_ipsec
eventually 10 "status says so" problem_of_host OWNER_RIVAL
must "vx0 is encrypted all the same" state_is 1 vx0 encrypted
lab-hv 1 ovs-ipsec-offload status | grep OWNER_RIVAL
kill $rival; wait $rival 2>/dev/null || true
eventually 10 "and that it is gone" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.state == \"ok\"' >/dev/null"
no_clear 1
