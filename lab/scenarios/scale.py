# SPDX-License-Identifier: Apache-2.0
"""What ike-scale.sh has done at either end, and measures.

  scale.py peers N CHILDREN KIND     in hv2: be N peers, until killed
  scale.py load-test N               in hv1: charon's load-tester sets up N pairs
  scale.py add FIRST N OPTION...     in hv1: add N tunnels, print when it was committed
  scale.py whole WANT NIC LIMIT FROM in hv1: wait until WANT outbound SAs are in the NIC and
                                     every pair of the status is encrypted
  scale.py one I SAS LOG PID OPTION...  in hv1: add one tunnel, and tell what took how long
  scale.py sent N PER LIMIT FROM     in hv1: the incumbent: traffic to N peers until each has PER SAs
  scale.py sent-one I PER LIMIT OPTION...   likewise one more
  scale.py cpu NAME=PID...           seconds of processor time that they have used, in user
                                     space and in the kernel
"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import vici

HERE = "10.0.0.1"
LIMIT = 60  # s, for the load-tester to go on
SECRET = "swordfish"
DATABASE = "/run/openvswitch/db.sock"
# What plugin/ike offers, and what it offers to a peer that runs ovs-monitor-ipsec.
PROPOSALS = {
    "ours": (["aes256gcm16-prfsha384-x25519"], ["aes256gcm16-x25519-esn"]),
    "stock": (["aes256gcm16-prfsha256-modp2048", "aes256gcm16-prfsha256-ecp256"],
              ["aes256gcm16-modp2048-esn-noesn", "aes256gcm16-ecp256-esn-noesn", "aes256gcm16-esn-noesn"]),
}


def peer(i):
    return "10.1.%d.%d" % (i // 250, i % 250 + 1)


# The peers.

def selectors(children):
    if children == "one":
        return {"both": ("dynamic[udp]", "dynamic[udp]")}
    return {"out": ("dynamic[udp]", "dynamic[udp/4789]"), "in": ("dynamic[udp/4789]", "dynamic[udp]")}


def connection(i, children, kind):
    ike, esp = PROPOSALS[kind]
    # As subnets, since one charon has the connections of all peers: of an address it makes
    # a number whenever it looks for the connection of a request. And with another time of
    # rekey for each, as ours have: charon tells them apart by it without their identities.
    return {"version": "2", "local_addrs": [peer(i) + "/32"], "remote_addrs": [HERE + "/32"], "proposals": ike, "mobike": "no",
            "unique": "never", "rekey_time": "%ds" % (14400 - i), "dpd_delay": "1h",
            "local": {"auth": "psk", "id": peer(i)}, "remote": {"auth": "psk", "id": HERE},
            "children": {"p%d-%s" % (i, name): {"local_ts": [here], "remote_ts": [there], "mode": "transport", "esp_proposals": esp,
                                                "rekey_time": "1h", "replay_window": "256"}
                         for name, (here, there) in selectors(children).items()}}


def peers(n, children, kind):
    """Has charon answer for n peers. Each sets up the child through which it sends, as
    ours do, as soon as there is an IKE SA."""
    charon = vici.Charon()
    charon.call("load-shared", id="peers", type="IKE", data=SECRET)
    for i in range(n):
        charon.call("load-conn", **{"p%d" % i: connection(i, children, kind)})
    print("loaded", flush=True)
    for event in vici.Charon().follow("ike-updown"):
        name = next(k for k, v in event.items() if isinstance(v, dict))
        if event.get("up") == "yes" and children == "two":
            charon.call("initiate", child=name + "-out", ike=name, timeout="-1")


# charon's load-tester.

def load_test(n):
    """Prints the seconds for n pairs, how many came up, and the SAs in the kernel."""
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/charon.ldt")
    s.settimeout(LIMIT)
    began, seen = time.time(), b""
    s.sendall(b"%d 0\n" % n)
    try:
        while piece := s.recv(65536):
            seen += piece
    except TimeoutError:
        sys.exit("the load-tester has come no further than %s in %d s" % (seen, LIMIT))
    took = time.time() - began
    print("%.3f %d %d" % (took, seen.count(b"+"), len(sas())))


# The database.

class Database:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(DATABASE)
        self.text, self.updates = "", []

    def receive(self):
        while True:
            try:
                message, end = json.JSONDecoder().raw_decode(self.text)
                self.text = self.text[end:].lstrip()
                return message
            except json.JSONDecodeError:
                piece = self.socket.recv(1 << 20)
                if not piece:
                    raise OSError("the database has gone")
                self.text += piece.decode()

    def call(self, method, *params):
        self.socket.sendall(json.dumps({"id": method, "method": method, "params": ["Open_vSwitch", *params]}).encode())
        while True:
            message = self.receive()
            if message.get("id") == method and "result" in message:
                errors = [r for r in message["result"] if isinstance(r, dict) and "error" in r]
                if errors:
                    sys.exit("%s: %s" % (method, errors[0]))
                return message["result"]
            self.updates.append((time.time(), message))


def tunnels(first, n, options):
    """The operations that add tunnels, as ovs-vsctl would."""
    ops = []
    for i in range(first, first + n):
        o = {"local_ip": HERE, "remote_ip": peer(i), "key": str(i + 1), "psk": SECRET, **dict(x.split("=", 1) for x in options)}
        ops += [{"op": "insert", "table": "Interface", "uuid-name": "i%d" % i,
                 "row": {"name": "t%d" % i, "type": "vxlan", "options": ["map", list(o.items())]}},
                {"op": "insert", "table": "Port", "uuid-name": "p%d" % i, "row": {"name": "t%d" % i, "interfaces": ["named-uuid", "i%d" % i]}}]
    ports = [["named-uuid", "p%d" % i] for i in range(first, first + n)]
    ops.append({"op": "mutate", "table": "Bridge", "where": [["name", "==", "br-int"]], "mutations": [["ports", "insert", ["set", ports]]]})
    ops.append({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]})
    return ops


def add(first, n, options):
    db, ops = Database(), tunnels(first, n, options)
    began = time.time()
    db.call("transact", *ops)
    return began


# What is in the kernel.

def sas():
    """The ESP SAs: source, destination, SPI. One that waits for keys has none."""
    text = subprocess.run(["ip", "xfrm", "state"], stdout=subprocess.PIPE, check=True, text=True).stdout
    return re.findall(r"^src (\S+) dst (\S+)\n\s+proto esp spi (0x0*[1-9a-f]\w*)", text, re.M)


def count():
    """How many states there are, without reading them."""
    text = subprocess.run(["ip", "xfrm", "state", "count"], stdout=subprocess.PIPE, check=True, text=True).stdout
    return int(re.search(r"SAD count (\d+)", text).group(1))


def ready(n, per):
    """How many of the first n peers have so many SAs."""
    have = {}
    for src, dst, _ in sas():
        other = dst if src == HERE else src
        have[other] = have.get(other, 0) + 1
    return sum(have.get(peer(i), 0) >= per for i in range(n))


# Ours.

def status():
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/ovs-ipsec-offload/ctl.sock")
    s.sendall(b"GET /v1/status HTTP/1.0\r\n\r\n")
    answer = b""
    while piece := s.recv(1 << 20):
        answer += piece
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


def outbound(nic):
    with open(nic + "/state") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("tx_states "))


def whole(want, nic, limit, began):
    """Prints the seconds until the last outbound SA was in the NIC, until the status was
    whole, and how many pairs were encrypted. The status is asked for only then: each
    answer looks at the whole host."""
    while outbound(nic) < want and time.time() < began + limit:
        time.sleep(0.1)
    installed = time.time() - began
    while True:
        pairs = status()["pairs"]
        encrypted = sum(p["state"] == "encrypted" for p in pairs)
        if encrypted == len(pairs) or time.time() > began + limit:
            break
    print("%.2f %.2f %d" % (installed, time.time() - began, encrypted))


def stamp(text, now):
    """The time that charon wrote in front of a line, which has no date."""
    h, m, s = re.match(r"(\d+):(\d+):(\d+\.\d+)", text).groups()
    return now - now % 86400 + int(h) * 3600 + int(m) * 60 + float(s)


def idle(pid):
    """Waits until a process has done nothing for a second: one more tunnel is to find the
    daemon at rest, and not at what the last one left to do."""
    used, since = None, time.time()
    while time.time() < since + 1:
        with open("/proc/%s/stat" % pid) as f:
            fields = f.read().rsplit(") ", 1)[1].split()
        now = int(fields[11]) + int(fields[12])
        if used is None or now > used + 2:  # the runtime of Go wakes now and then
            used, since = now, time.time()
        time.sleep(0.1)


def one(i, per, options, log, pid):
    """Prints, in milliseconds: from the commit to charon's first step, the exchanges until
    there is the child through which this end sends, from that to "encrypted" in the
    database; then how many SAs came, and how many of the others went."""
    idle(pid)
    db = Database()
    db.call("monitor", None, {"Interface": {"columns": ["name", "external_ids"]}})
    before, size = set(sas()), os.path.getsize(log)
    ops = tunnels(i, 1, options)
    began = time.time()
    db.call("transact", *ops)
    done = None
    while done is None:
        for at, message in db.updates:
            if ["ipsec-offload:state", "encrypted"] in reported(message, "t%d" % i):
                done = at
        db.updates.clear()
        if done is None:
            message = db.receive()
            db.updates.append((time.time(), message))
    # The pair is encrypted with its outbound SAs; the peer's child may still be coming.
    while len((after := set(sas())) - before) < per and time.time() < done + LIMIT:
        time.sleep(0.05)
    with open(log) as f:
        f.seek(size)
        lines = [line for line in f if re.search(re.escape(peer(i)) + r"\b", line)]
    first = next(stamp(line, began) for line in lines if "initiating IKE_SA" in line)
    last = min(stamp(line, began) for line in lines if "CHILD_SA" in line and "established" in line)
    print("%.1f %.1f %.1f %d %d" % ((first - began) * 1000, (last - first) * 1000, (done - last) * 1000, len(after - before), len(before - after)))


def reported(message, port):
    """What an update says of a port in external_ids."""
    if message.get("method") != "update":
        return []
    for row in message["params"][1].get("Interface", {}).values():
        if row.get("new", {}).get("name") == port:
            return row["new"]["external_ids"][1]
    return []


# The incumbent.

def traffic(n, stop):
    """One packet for each of n peers' VXLAN port every second: what traps wait for."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setblocking(False)
    while not stop.wait(1):
        for i in range(n):
            try:
                s.sendto(b"\x08" + bytes(7), (peer(i), 4789))
            except OSError:
                pass  # no SA yet


def sent(n, per, limit, began):
    """Prints the seconds, and how many peers have their SAs."""
    stop = threading.Event()
    threading.Thread(target=traffic, args=(n, stop), daemon=True).start()
    have, looked = 0, 0
    while have < n and time.time() < began + limit:
        if count() >= n * per or time.time() > looked + 10:
            have, looked = ready(n, per), time.time()
        time.sleep(0.1)
    took = time.time() - began
    stop.set()
    print("%.2f %d" % (took, have))


def sent_one(i, per, limit, options):
    """Prints the seconds until the tunnel had its SAs, and how many others' SAs went."""
    before = set(sas())
    began = add(i, 1, options)
    stop = threading.Event()
    threading.Thread(target=traffic, args=(i + 1, stop), daemon=True).start()
    while (have := sum(peer(i) in s for s in sas())) < per and time.time() < began + limit:
        time.sleep(0.1)
    took = time.time() - began
    stop.set()
    print("%.2f %d %d" % (took, have >= per, len(before - set(sas()))))


def cpu(processes):
    ticks = os.sysconf("SC_CLK_TCK")
    for p in processes:
        name, pid = p.split("=")
        with open("/proc/%s/stat" % pid) as f:
            fields = f.read().rsplit(") ", 1)[1].split()
        for mode, used in zip(("user", "system"), fields[11:13]):
            print("%s %s %.2f" % (name, mode, int(used) / ticks))


def main(verb, *args):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if verb == "peers":
        peers(int(args[0]), args[1], args[2])
    elif verb == "load-test":
        load_test(int(args[0]))
    elif verb == "add":
        print("%.3f" % add(int(args[0]), int(args[1]), args[2:]))
    elif verb == "whole":
        whole(int(args[0]), args[1], float(args[2]), float(args[3]))
    elif verb == "one":
        one(int(args[0]), int(args[1]), args[4:], args[2], args[3])
    elif verb == "sent":
        sent(int(args[0]), int(args[1]), float(args[2]), float(args[3]))
    elif verb == "sent-one":
        sent_one(int(args[0]), int(args[1]), float(args[2]), args[3:])
    elif verb == "cpu":
        cpu(args)
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
