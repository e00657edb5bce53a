# SPDX-License-Identifier: Apache-2.0
"""Adds, rekeys and removes tunnel ports, as an automation would, until it is killed.

  churn.py HOST PORTS RATE SEED    RATE changes a second among PORTS ports

It writes to the database's socket, waits for a database that is away, and for
one that has no br-int.
"""
import json
import os
import random
import secrets
import socket
import sys
import time

KEYS = "/etc/ovs-ipsec-offload/keys.d"


def half():
    spi = secrets.randbelow(2**32 - 256) + 256
    return {"spi": "0x%08x" % spi, "key": secrets.token_hex(32), "salt": secrets.token_hex(4)}


def key_set(host, peer):
    """Makes a key set and returns its name."""
    name = "churn-%s" % secrets.token_hex(6)
    part = os.path.join(os.path.dirname(KEYS), name)
    with open(part, "w") as f:
        json.dump({"version": 1, "name": name, "host": host, "peer": peer,
                   "created": "2026-01-01T00:00:00Z", "out": half(), "in": half()}, f)
    os.rename(part, "%s/%s.json" % (KEYS, name))
    return name


def transact(*ops):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect("/run/openvswitch/db.sock")
        s.sendall(json.dumps({"id": 1, "method": "transact", "params": ["Open_vSwitch", *ops]}).encode())
        answer = b""
        while True:
            piece = s.recv(1 << 20)
            if not piece:
                raise OSError("the database has gone")
            answer += piece
            try:
                result = json.loads(answer)["result"]
            except json.JSONDecodeError:
                continue
            errors = [r for r in result if r and "error" in r]
            if errors:
                raise OSError(str(errors[0]))
            return result


def mutate(how, what):
    return {"op": "mutate", "table": "Bridge", "where": [["name", "==", "br-int"]], "mutations": [["ports", how, what]]}


def options(host, i):
    n = host[2:]
    return ["map", [["local_ip", "10.0.0." + n], ["remote_ip", "10.0.1.%d" % (i + 1)], ["key", str(1000 + i)],
                    ["ipsec_keys", key_set(host, "p%d" % i)]]]


def add(host, i):
    transact({"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": "c%d" % i, "type": "vxlan", "options": options(host, i)}},
             {"op": "insert", "table": "Port", "uuid-name": "p", "row": {"name": "c%d" % i, "interfaces": ["named-uuid", "i"]}},
             mutate("insert", ["set", [["named-uuid", "p"]]]))


def rekey(host, i):
    transact({"op": "update", "table": "Interface", "where": [["name", "==", "c%d" % i]], "row": {"options": options(host, i)}})


def remove(name):
    rows = transact({"op": "select", "table": "Port", "where": [["name", "==", name]], "columns": ["_uuid"]})[0]["rows"]
    transact(mutate("delete", ["set", [r["_uuid"] for r in rows]]))


def there():
    rows = transact({"op": "select", "table": "Port", "where": [], "columns": ["name"]})[0]["rows"]
    return {r["name"] for r in rows if r["name"][0] == "c" and r["name"][1:].isdigit()}


def churn(host, ports, rate, seed):
    rnd, done, began = random.Random(seed), 0, time.monotonic()
    while True:
        i = rnd.randrange(ports)
        name = "c%d" % i
        try:
            if name not in there():
                add(host, i)
            elif rnd.random() < 0.5:
                rekey(host, i)
            else:
                remove(name)
            done += 1
            with open("/tmp/churned." + host, "w") as f:
                f.write("%d\n" % done)
        except OSError:
            pass  # the database is away, or has no br-int: as rate allows, again
        time.sleep(max(0.0, 1 / rate - (time.monotonic() - began)))
        began = time.monotonic()


if __name__ == "__main__":
    os.umask(0o077)
    os.makedirs(KEYS, 0o700, exist_ok=True)
    churn(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
