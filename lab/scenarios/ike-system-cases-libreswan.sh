#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --hypervisors 4 --timeout 900
# not in make test: this version drives no libreswan
# The cases of Open vSwitch's own tests, with libreswan: see system-cases.sh.
IKE=libreswan
. "$(dirname "$0")/system-cases.sh"
