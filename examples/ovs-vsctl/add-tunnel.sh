#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Add an encrypted tunnel and wait until it is.
# usage: add-tunnel.sh BRIDGE PORT LOCAL_IP REMOTE_IP VNI KEYSET
set -eu
bridge=$1 port=$2 local=$3 remote=$4 vni=$5 keys=$6
ovs-vsctl --may-exist add-port "$bridge" "$port" -- set interface "$port" type=vxlan \
	options:local_ip="$local" options:remote_ip="$remote" options:key="$vni" options:ipsec_keys="$keys"
ovs-vsctl --timeout=30 wait-until interface "$port" 'external_ids:"ipsec-offload:state"=encrypted' || {
	ovs-vsctl get interface "$port" external_ids
	exit 1
}
