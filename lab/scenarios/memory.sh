#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lab: --param max_rx_sa=0 --timeout 600 --mem 4096
# not in make test: make bench
# The daemon's memory with TUNNELS tunnels in the database (default 10000).
. "$(dirname "$0")/lib.sh"
tunnels=${TUNNELS:-10000}
lab-ovs 1 stop
lab-ovs 1 start-db
say "$tunnels key sets and ports"
lab-hv 1 python3 - "$tunnels" <<'P'
import json, os, secrets, socket, sys
n = int(sys.argv[1])
d = "/etc/ovs-ipsec-offload/keys.d"
os.makedirs(d, 0o700, exist_ok=True)
os.umask(0o077)
spis = iter(secrets.SystemRandom().sample(range(0x100, 1 << 32), 2 * n))
half = lambda: {"spi": "0x%08x" % next(spis), "key": secrets.token_hex(32), "salt": secrets.token_hex(4)}
for i in range(n):
    with open(f"{d}/set{i}.json", "w") as f:
        json.dump({"version": 1, "name": f"set{i}", "host": "hv1", "peer": f"p{i}", "created": "2026-01-01T00:00:00Z", "out": half(), "in": half()}, f)
ops = []
for i in range(n):
    ops += [{"op": "insert", "table": "Interface", "uuid-name": f"i{i}", "row": {"name": f"t{i}", "type": "vxlan", "options": ["map", [
                ["local_ip", "10.0.0.1"], ["remote_ip", f"10.{1 + i // 62500}.{i // 250 % 250}.{i % 250 + 1}"], ["key", str(i)], ["ipsec_keys", f"set{i}"]]]}},
            {"op": "insert", "table": "Port", "uuid-name": f"p{i}", "row": {"name": f"t{i}", "interfaces": ["named-uuid", f"i{i}"]}}]
ops.append({"op": "mutate", "table": "Bridge", "where": [["name", "==", "br-int"]],
            "mutations": [["ports", "insert", ["set", [["named-uuid", f"p{i}"] for i in range(n)]]]]})
# Too long for a command line: the request goes straight to the socket.
s = socket.socket(socket.AF_UNIX)
s.connect("/run/openvswitch/db.sock")
s.sendall(json.dumps({"id": 1, "method": "transact", "params": ["Open_vSwitch"] + ops}).encode())
answer = b""
while True:
    answer += s.recv(1 << 20)
    try:
        errors = [r for r in json.loads(answer)["result"] if r and "error" in r]
        break
    except json.JSONDecodeError:
        continue
sys.exit(f"transact: {errors[0]}" if errors else 0)
P
daemon_start 1
encrypted() { [ "$(lab-hv 1 ovs-ipsec-offload status --json | jq '[.pairs[] | select(.state == "encrypted")] | length')" = "$1" ]; }
eventually 400 "$tunnels outbound SAs in the NIC" nic_is 1 tx_states "$tunnels"
eventually 60 "$tunnels pairs encrypted" encrypted "$tunnels"
pid=$(cat /tmp/daemon1.pid)
grep -E '^(VmHWM|VmRSS)' "/proc/$pid/status"
echo "tunnels $tunnels: RSS $(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status") MB, peak $(awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status") MB"
