#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A peer with the real ovs-monitor-ipsec and libreswan, by psk.
. "$(dirname "$0")/ike.sh"
stock_peer stock-libreswan
