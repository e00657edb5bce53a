# SPDX-License-Identifier: Apache-2.0
# not in make test: it is sourced
# What the boot scenarios share: hypervisor 1 with its units' commands.
. "$(dirname "$0")/lib.sh"
state=/var/lib/ovs-ipsec-offload
gate="$PWD/systemd/ovs-ipsec-offload-gate"
# boot_gate RC [VARIABLE=VALUE...]: ExecStartPre of ovs-vswitchd.service.
boot_gate() {
	want=$1; shift
	from=$(cut -d. -f1 /proc/uptime)
	set +e; lab-hv 1 env "$@" "$gate" >/tmp/gate 2>&1; rc=$?; set -e
	cat /tmp/gate
	[ "$rc" = "$want" ] || fail "the gate ends with $rc, not $want"
	note "gate: exit $rc after $(($(cut -d. -f1 /proc/uptime) - from)) s"
}
hw_offload() { lab-hv 1 ovs-vsctl --no-wait --if-exists get Open_vSwitch . other_config:hw-offload; }
policies() { lab-hv 1 ip xfrm policy; }
# reboot: what it takes away; Debian starts ovs-vswitchd before the network is up.
reboot() {
	lab-ovs 1 cold
	lab-hv 1 ip link set pf0 down
	lab-hv 1 ip address flush dev pf0
	lab-ovs 1 start-db
}
network() {
	lab-hv 1 ip link set pf0 up
	lab-hv 1 ip address add 10.0.0.1/24 dev pf0
	lab-hv 1 ip -6 address add fd00::1/64 dev pf0 nodad
}
