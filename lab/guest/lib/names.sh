# SPDX-License-Identifier: Apache-2.0
# Sourced by the other scripts: names and how to get into a namespace.

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# The namespaces lie in the machine's own /lab/ns, which the private mount
# namespaces do not show; by way of process 1 it can be reached from anywhere.
ns_dir=/proc/1/root/lab/ns

# enter NAME CMD...: replaces the shell by CMD, inside NAME (hv1, vm2).
enter() {
	name=$1; shift
	[ -e "$ns_dir/$name.net" ] || die "there is no $name in this lab"
	[ $# -gt 0 ] || die "no command given"
	case $PWD in # keep the working directory if it is the same inside
	/etc | /etc/* | /run | /run/* | /sys | /sys/* | /var | /var/*) dir=/ ;;
	*) dir=$PWD ;;
	esac
	exec nsenter --net="$ns_dir/$name.net" --mount="$ns_dir/$name.mnt" --uts="$ns_dir/$name.uts" --wdns="$dir" -- "$@"
}

# in_net NAME CMD...: runs CMD in the network namespace of NAME alone.
in_net() {
	net=$1; shift
	nsenter --net="$ns_dir/$net.net" -- "$@"
}

# poll LIMIT CMD...: runs CMD until it succeeds, LIMIT seconds at most.
poll() {
	end=$(($(cut -d. -f1 /proc/uptime) + $1)); shift
	until "$@"; do
		[ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || return 1
		sleep 0.05
	done
}
