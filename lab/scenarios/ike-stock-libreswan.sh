#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A peer with the real ovs-monitor-ipsec and libreswan: see stock_peer.
. "$(dirname "$0")/ike.sh"
stock_peer stock-libreswan
