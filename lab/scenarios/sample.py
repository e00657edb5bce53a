# SPDX-License-Identifier: Apache-2.0
"""Watches a NIC while something happens to it, and says what that led to.

  sample.py watch STATE FILE   writes a line every two milliseconds until killed
  sample.py mark FILE CMD...   notes the time and runs CMD
  sample.py row FILE           prints what followed the mark
"""
import os
import sys
import time

KEYS = ("tx_clear_vxlan", "offloaded_flows", "tx_tables", "tx_policies", "tx_states", "tx_esp")


def watch(state, out):
    with open(out, "w") as f:
        while True:
            with open(state) as s:
                now = dict(line.split()[:2] for line in s if len(line.split()) >= 2)
            f.write("%.6f %s\n" % (time.monotonic(), " ".join(now.get(k, "0") for k in KEYS)))
            f.flush()
            time.sleep(0.002)


def mark(out, cmd):
    with open(out + ".mark", "w") as f:
        f.write("%.6f\n" % time.monotonic())
    os.execvp(cmd[0], cmd)


def row(out):
    """Prints: packets in clear, milliseconds to the last of them, to the moment
    when nothing was offloaded without tables, and to traffic under ESP again."""
    began = float(open(out + ".mark").read())
    lines = [l.split() for l in open(out) if len(l.split()) == len(KEYS) + 1]
    s = [(float(l[0]) - began, dict(zip(KEYS, map(int, l[1:])))) for l in lines]
    before = [x for t, x in s if t < 0][-1]
    after = [(t, x) for t, x in s if t >= 0]
    clear = after[-1][1]["tx_clear_vxlan"] - before["tx_clear_vxlan"]
    last, prev = 0.0, before
    shut, esp_stopped, esp_back = 0.0, None, 0.0
    esp_seen = 0.0
    for t, x in after:
        if x["tx_clear_vxlan"] > prev["tx_clear_vxlan"]:
            last = t
        if x["offloaded_flows"] > 0 and x["tx_tables"] == 0:
            shut = t
        if x["tx_esp"] > prev["tx_esp"]:
            if t - esp_seen > 0.1:
                esp_back = t  # after a pause
            esp_seen = t
        prev = x
    print("%d %.0f %.0f %.0f" % (clear, last * 1000, shut * 1000, esp_back * 1000))


if __name__ == "__main__":
    {"watch": lambda a: watch(*a), "mark": lambda a: mark(a[0], a[1:]), "row": lambda a: row(*a)}[sys.argv[1]](sys.argv[2:])
