#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --hypervisors 4 --timeout 1800
# not in make test: certificates are not done with libreswan, and the others were not tried
# The cases of Open vSwitch's own tests, with libreswan: see system-cases.sh.
IKE=libreswan
. "$(dirname "$0")/system-cases.sh"
