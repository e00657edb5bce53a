#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --hypervisors 4 --timeout 900
# The cases of Open vSwitch's own tests, with strongSwan: see system-cases.sh.
IKE=strongswan
. "$(dirname "$0")/system-cases.sh"
