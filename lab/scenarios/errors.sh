#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Bad input: a clear error each, and the exit code that the manual states.
. "$(dirname "$0")/lib.sh"

# refused CODE TEXT COMMAND...: the command must end with CODE and say TEXT.
refused() {
	code=$1 text=$2; shift 2
	set +e; timeout 20 "$@" >/tmp/refused 2>&1; rc=$?; set -e
	cat /tmp/refused
	[ "$rc" = "$code" ] || fail "exit code $rc, not $code: $*"
	grep -qi -- "$text" /tmp/refused || fail "does not say \"$text\": $*"
	note "exit $rc: $*"
}

say "command line and configuration"
refused 2 "unknown" lab-hv 1 ovs-ipsec-offload run --nosuch
refused 2 "pair" lab-hv 1 ovs-ipsec-offload keys new --out /tmp/x
lab-hv 1 mkdir -p /etc/ovs-ipsec-offload
lab-hv 1 sh -c 'echo "guardd: auto" >/etc/ovs-ipsec-offload/config.yaml'
refused 2 "guardd" lab-hv 1 ovs-ipsec-offload run
lab-hv 1 sh -c 'echo "guard: sometimes" >/etc/ovs-ipsec-offload/config.yaml'
refused 2 "sometimes" lab-hv 1 ovs-ipsec-offload run
lab-hv 1 rm /etc/ovs-ipsec-offload/config.yaml

say "no daemon, no permission"
refused 3 "not running" lab-hv 1 ovs-ipsec-offload status
refused 3 "permission" lab-hv 1 setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs ovs-ipsec-offload run

say "the database is not there at the start: it waits and says so"
lab-ovs 1 stop
lab-hv 1 ovs-ipsec-offload run >>/tmp/daemon1.log 2>&1 &
echo $! >/tmp/daemon1.pid
eventually 10 "status says it waits" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.state == \"waiting\"' >/dev/null"
lab-ovs 1 start
eventually 20 "and goes on when it comes" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.state == \"ok\"' >/dev/null"
refused 1 "already" lab-hv 1 ovs-ipsec-offload run

say "key files"
key=$(keys 1 2)
dir=/etc/ovs-ipsec-offload/keys.d
tunnel 1 vx0 10.0.0.1 10.0.0.2 ipsec_keys="$key"
tunnel 2 vx0 10.0.0.2 10.0.0.1 ipsec_keys="$key"
eventually 20 "good key file: encrypted" state_is 1 vx0 encrypted
port() { tunnel 1 "$1" 10.0.0.1 "$2" key="$3" ipsec_keys="$4"; }
lab-hv 1 sh -c "umask 077; echo '{\"version\":' >$dir/corrupt.json; cp $dir/$key.json $dir/open.json; chmod 644 $dir/open.json"
port k1 10.0.0.11 1 corrupt
port k2 10.0.0.12 2 open
port k3 10.0.0.13 3 "$key"
port k4 10.0.0.14 4 missing
for p in k1 k2 k3 k4; do
	eventually 10 "$p is refused" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.ports[] | select(.name == \"$p\") | .problems[0].code | startswith(\"KEY_\")' >/dev/null"
	note "$p: $(problem 1 $p): $(lab-hv 1 ovs-ipsec-offload status --json | jq -r --arg p $p '.ports[] | select(.name == $p) | .problems[0].text')"
	must "$p is blocked" state_is 1 $p blocked
done
must "vx0 is still encrypted" state_is 1 vx0 encrypted

say "no key in any output"
raw=$(lab-hv 1 sh -c "cat $dir/$key.json" | jq -r '.out.key, .in.key')
lab-hv 1 ovs-ipsec-offload status --json >/tmp/out
lab-hv 1 ovs-ipsec-offload plan >>/tmp/out 2>&1
lab-hv 1 ovs-vsctl list interface >>/tmp/out
lab-hv 1 ovs-vsctl list Open_vSwitch >>/tmp/out
cat /tmp/daemon1.log >>/tmp/out
tr '\0' ' ' <"/proc/$(cat /tmp/daemon1.pid)/cmdline" >>/tmp/out
for k in $raw; do grep -qi "$k" /tmp/out && fail "a key was printed"; done
note "none"

say "wrong NIC modes"
daemon_stop 1
for n in 1; do lab-hv $n ip xfrm policy flush; lab-hv $n ip xfrm state flush; lab-hv $n ovs-vsctl del-port br-int vx0; done
for p in k1 k2 k3 k4; do lab-hv 1 ovs-vsctl del-port br-int $p; done
eventually 10 "tables gone" nic_is 1 tx_tables 0
eventually 15 "flows gone" nic_is 1 offloaded_flows 0
dev=$(lab-hv 1 devlink dev | head -n 1 | cut -d: -f1)
lab-hv 1 devlink dev eswitch set "$dev" mode legacy
daemon_start 1
key=$(keys 1 2)
tunnel 1 vx0 10.0.0.1 10.0.0.2 ipsec_keys="$key"
eventually 20 "vx0: eswitch mode" sh -c "lab-hv 1 ovs-ipsec-offload status --json | jq -e '.ports[] | select(.name == \"vx0\") | .problems[0].text | test(\"switchdev\")' >/dev/null"
note "$(lab-hv 1 ovs-ipsec-offload status --json | jq -r '.ports[] | select(.name == "vx0") | .problems[0].text')"
