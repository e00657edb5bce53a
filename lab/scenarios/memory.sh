#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --param max_rx_sa=0 --timeout 900 --mem 4096
# not in make test: make bench
# The daemon's memory with TUNNELS tunnels in the database (default 10000).
. "$(dirname "$0")/lib.sh"
n=${TUNNELS:-10000}
lab-ovs 1 stop
lab-ovs 1 start-db
say "$n key sets and ports"
lab-hv 1 python3 - "$n" <<'P'
import json, os, secrets, subprocess, sys
n = int(sys.argv[1])
d = "/etc/ovs-ipsec-offload/keys.d"
os.makedirs(d, 0o700, exist_ok=True)
os.umask(0o077)
half = lambda: {"spi": "0x%08x" % (secrets.randbits(32) | 0x100), "key": secrets.token_hex(32), "salt": secrets.token_hex(4)}
for i in range(n):
    with open(f"{d}/set{i}.json", "w") as f:
        json.dump({"version": 1, "name": f"set{i}", "host": "hv1", "peer": f"p{i}", "created": "2026-01-01T00:00:00Z", "out": half(), "in": half()}, f)
for start in range(0, n, 500):
    args = ["ovs-vsctl", "--no-wait"]
    for i in range(start, min(n, start + 500)):
        args += ["--", "add-port", "br-int", f"t{i}", "--", "set", "interface", f"t{i}", "type=vxlan", "options:local_ip=10.0.0.1",
                 f"options:remote_ip=10.{1 + i // 62500}.{i // 250 % 250}.{i % 250 + 1}", f"options:key={i}", f"options:ipsec_keys=set{i}"]
    subprocess.run(args, check=True)
P
daemon_start 1
encrypted() { [ "$(lab-hv 1 ovs-ipsec-offload status --json | jq '[.pairs[] | select(.state == "encrypted")] | length')" = "$1" ]; }
eventually 600 "$n pairs encrypted" encrypted "$n"
pid=$(cat /tmp/daemon1.pid)
grep -E '^(VmHWM|VmRSS)' "/proc/$pid/status"
echo "tunnels $n: RSS $(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status") MB, peak $(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status") MB"
