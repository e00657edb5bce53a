# SPDX-License-Identifier: Apache-2.0
"""As much of charon's VICI as the scenarios need: commands, and one event."""
import socket
import struct

SOCKET = "/run/charon.vici"
COMMAND, REGISTER, EVENT = 0, 3, 7


def message(values):
    """A dict as VICI writes it: dicts are sections, lists are lists, the rest is text."""
    out = b""
    for key, value in values.items():
        name = struct.pack("!B", len(key)) + key.encode()
        if isinstance(value, dict):
            out += b"\x01" + name + message(value) + b"\x02"
        elif isinstance(value, list):
            out += b"\x04" + name + b"".join(b"\x05" + text(v) for v in value) + b"\x06"
        else:
            out += b"\x03" + name + text(value)
    return out


def text(value):
    return struct.pack("!H", len(str(value))) + str(value).encode()


def parse(data):
    """A message as a dict; what is in lists is left out."""
    top = {}
    stack, at = [top], 0

    def name():
        nonlocal at
        n = data[at]
        at += 1 + n
        return data[at - n:at].decode()

    def content():
        nonlocal at
        n = struct.unpack_from("!H", data, at)[0]
        at += 2 + n
        return data[at - n:at].decode(errors="replace")

    while at < len(data):
        kind = data[at]
        at += 1
        if kind == 1:
            inner = {}
            stack[-1][name()] = inner
            stack.append(inner)
        elif kind == 2:
            stack.pop()
        elif kind == 3:
            key = name()
            stack[-1][key] = content()
        elif kind == 4:
            name()
        elif kind == 5:
            content()
    return top


class Charon:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(SOCKET)

    def send(self, kind, name, body=b""):
        packet = struct.pack("!BB", kind, len(name)) + name.encode() + body
        self.socket.sendall(struct.pack("!I", len(packet)) + packet)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                raise OSError("charon has gone")
            data += piece
        return data

    def receive(self):
        """The type of the next packet, and what follows it."""
        packet = self.exactly(struct.unpack("!I", self.exactly(4))[0])
        return packet[0], packet[1:]

    def call(self, command, **values):
        self.send(COMMAND, command, message(values))
        answer = parse(self.receive()[1])
        if answer.get("success", "yes") != "yes":
            raise OSError("%s: %s" % (command, answer.get("errmsg")))
        return answer

    def follow(self, event):
        """Yields the event's messages, for ever."""
        self.send(REGISTER, event)
        while True:
            kind, rest = self.receive()
            if kind == EVENT:
                yield parse(rest[1 + rest[0]:])
