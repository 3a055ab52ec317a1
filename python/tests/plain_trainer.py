"""A trainer in plain Python, written from docs/trainer_protocol.md: no torch, no numpy, no sglang_rl.

usage: plain_trainer.py ADDRESS KEY FILE.safetensors [socket|shm] [--die PHASE] [--batches N]

Pushes the tensors of a safetensors file, prints the answer as one line of JSON, and ends. With
`--batches N` it takes N batches first and prints the SHA-256 of each. `--die` kills it (-9) at a point
of its first push: offered, asked, half, sent.
"""

import argparse
import hashlib
import hmac
import json
import mmap
import os
import secrets
import signal
import socket
import struct

HEAD = struct.Struct("<IIQ")
PAIR = struct.Struct("<II")
MESSAGE, BYTES, SLOT, FREE, BATCH = 1, 2, 3, 4, 5
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}


class Link:
    def __init__(self, address, key, way):
        kind, _, place = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(place)
        else:
            host, _, port = place.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
        self.file = self.socket.makefile("rb")
        self.free, self.later = [], []
        self.greet(key, way)

    def say(self, message):
        payload = json.dumps(message).encode()
        self.socket.sendall(HEAD.pack(MESSAGE, 0, len(payload)) + payload)

    def frame(self):
        head = self.file.read(HEAD.size)
        if len(head) < HEAD.size:
            raise SystemExit("rank 0 closed the connection")
        kind, _, length = HEAD.unpack(head)
        return kind, self.file.read(length)

    def hear(self):
        """The next message; slots that came free are noted on the way."""
        while True:
            kind, payload = (MESSAGE, self.later.pop(0)) if self.later else self.frame()
            if kind == FREE:
                self.free.append(PAIR.unpack(payload)[0])
            elif kind == MESSAGE:
                message = json.loads(payload)
                if message["type"] == "refused":
                    raise SystemExit(f"refused: {message['message']}")
                if message["type"] not in ("ping", "progress"):
                    return message

    def greet(self, key, way):
        mine = secrets.token_hex(32)
        hello = {"type": "hello", "protocol": "sglang-rl.trainer", "versions": [1], "nonce": mine}
        self.say({**hello, "name": "plain", "ways": [way]})
        theirs = self.hear()["nonce"]
        proof = lambda side: hmac.new(
            key.encode(), f"{side}:{mine}:{theirs}".encode(), hashlib.sha256
        ).hexdigest()
        self.say({"type": "proof", "proof": proof("client")})
        welcome = self.hear()
        assert hmac.compare_digest(welcome["proof"], proof("server")), "rank 0 has another key"
        assert way in welcome["ways"], welcome
        self.way = way
        if way == "shm":
            self.ring = welcome["ring"]
            size = self.ring["headerBytes"] + self.ring["slots"] * self.ring["slotBytes"]
            descriptor = os.open(self.ring["path"], os.O_RDWR)
            self.memory = mmap.mmap(descriptor, size)
            os.close(descriptor)
            assert self.memory[:32].hex() == self.ring["token"], "another file"
            self.free = list(range(self.ring["slots"]))
        self.say({"type": "way", "way": way, "why": ""})

    def push(self, number, tensors, die=None):
        described = [[name, dtype, shape] for name, dtype, shape, _ in tensors]
        offer = {"type": "push", "push": number, "version": None, "kind": "weights"}
        self.say({**offer, "tensors": described})
        if die == "offered":
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            message = self.hear()
            if message["type"] in ("done", "failed"):
                return message
            if message["type"] != "want":
                continue
            data = tensors[message["tensor"]][3]
            if die == "asked":
                os.kill(os.getpid(), signal.SIGKILL)
            if die == "half":
                self.send(number, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            self.send(number, data)
            if die == "sent" and message["tensor"] == len(tensors) - 1:
                os.kill(os.getpid(), signal.SIGKILL)

    def send(self, number, data):
        size = 1 << 20 if self.way == "socket" else self.ring["slotBytes"]
        for begin in range(0, len(data), size):
            chunk = data[begin : begin + size]
            if self.way == "socket":
                self.socket.sendall(HEAD.pack(BYTES, number, len(chunk)) + chunk)
                continue
            while not self.free:
                kind, payload = self.frame()
                if kind == FREE:
                    self.free.append(PAIR.unpack(payload)[0])
                else:
                    self.later.append(payload)
            slot = self.free.pop(0)
            at = self.ring["headerBytes"] + slot * self.ring["slotBytes"]
            self.memory[at : at + len(chunk)] = chunk
            self.socket.sendall(HEAD.pack(SLOT, number, 8) + PAIR.pack(slot, len(chunk)))

    def batch(self):
        self.say({"type": "take"})
        message = self.hear()
        assert message["type"] == "batch", message
        data = b""
        while len(data) < message["bytes"]:
            kind, payload = self.frame()
            if kind == BATCH:
                data += payload
        self.say({"type": "taken", "batch": message["batch"]})
        return hashlib.sha256(data).hexdigest()


def read(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        yield name, TYPES[entry["dtype"]], entry["shape"], data[begin:end]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("key")
    parser.add_argument("file")
    parser.add_argument("way", nargs="?", default="socket", choices=["socket", "shm"])
    parser.add_argument("--die")
    parser.add_argument("--batches", type=int, default=0)
    options = parser.parse_args()
    link = Link(options.address, options.key, options.way)
    for _ in range(options.batches):
        print(link.batch(), flush=True)
    print(json.dumps(link.push(1, list(read(options.file)), options.die)), flush=True)
    link.say({"type": "bye"})


if __name__ == "__main__":
    main()
