#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Add an encrypted tunnel and wait until it is; exit 1 and print the reason if it
# is not within 30 s. Also gives a port that is there a new key set.
# usage: add-tunnel.sh BRIDGE PORT LOCAL_IP REMOTE_IP VNI KEYSET
set -eu
[ $# -eq 6 ] || { sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2; }
bridge=$1 port=$2 local=$3 remote=$4 vni=$5 keys=$6
# What was reported of the port before goes in the same transaction, so that the
# wait below sees only what the daemon says of these options.
ovs-vsctl --may-exist add-port "$bridge" "$port" -- set interface "$port" type=vxlan \
	options:local_ip="$local" options:remote_ip="$remote" options:key="$vni" options:ipsec_keys="$keys" \
	-- remove interface "$port" external_ids '"ipsec-offload:state"'
ovs-vsctl --timeout=30 wait-until interface "$port" 'external_ids:"ipsec-offload:state"=encrypted' 2>/dev/null || {
	echo "$port is not encrypted:" \
		"$(ovs-vsctl --if-exists get interface "$port" 'external_ids:"ipsec-offload:reason"')" >&2
	exit 1
}
