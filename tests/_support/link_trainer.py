"""A trainer that does what it reads: one JSON command a line, one JSON answer a line.

usage: link_trainer.py ADDRESS [KEY] [WAY,WAY]
"""

import gc
import glob
import json
import os
import resource
import signal
import sys
import threading
import time

import torch
from safetensors.torch import load_file, save_file
from sglang_rl import _groups as groups
from sglang_rl import trainer as module
from sglang_rl.trainer import LinkError, WeightLink

torch.set_num_threads(1)
address, key, ways = (sys.argv[1:] + [None, None, None])[:3]
options = {} if not ways else {"ways": ways.split(",")}
link = WeightLink(address, key=key or None, name="torch", connect_timeout=30, timeout=20, **options)
weights = {}


def load(folder):
    weights.clear()
    for file in sorted(glob.glob(f"{folder}/*.safetensors")):
        weights.update(load_file(file, device=os.environ.get("LINK_DEVICE", "cpu")))
    return len(weights)


def make(shapes, dtype, seed):
    """Random weights of given shapes."""
    generator = torch.Generator().manual_seed(seed)
    weights.clear()
    for name, shape in shapes.items():
        weights[name] = torch.empty(shape, dtype=getattr(torch, dtype)).normal_(0, 0.02, generator=generator)
    return sum(tensor.nbytes for tensor in weights.values())


def save(folder):
    save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
    return True


def push(version=None, die=None, names=None):
    chosen = weights if names is None else {name: weights[name] for name in names}
    if die is not None:
        die_at(die)
    began = time.monotonic()
    try:
        report = link.push(chosen, version)
    except (LinkError, ValueError) as error:
        fields = {name: getattr(error, name, None) for name in ("phase", "code", "step", "server")}
        seconds = time.monotonic() - began
        return {"error": type(error).__name__, "message": str(error), "seconds": seconds, **fields}
    return {"version": report.version, "way": link.way, "why": link.why, "seconds": report.seconds}


def die_at(point):
    """Lets kill -9 come at the n-th tensor: offered, 0 (before its first byte), 5, ...; or as rank 0
    of the servers' groups: "join", or "broadcast", with the first bucket on its way."""
    if point in ("join", "broadcast"):
        real_step = getattr(groups._Group, point)

        def dying_step(self, *given):
            if point == "broadcast":
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
                real_step(self, [part[: len(part) // 2] for part in given[0]])
                time.sleep(10)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(groups._Group, point, dying_step)
        return
    if point == "offered":
        real = module._Wire._send_message

        def send(self, message):
            real(self, message)
            if message["type"] == "push":
                os.kill(os.getpid(), signal.SIGKILL)

        module._Wire._send_message = send
        return
    flat, count = module._Tensors.flat, 0

    def dying(self, index):
        nonlocal count
        count += 1
        if count > point:
            os.kill(os.getpid(), signal.SIGKILL)
        return flat(self, index)

    module._Tensors.flat = dying


def state():
    gc.collect()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "maps": sum("sglang-rl-trainer" in line for line in open("/proc/self/maps")),
        "rss": int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize(),
    }


def pushes(times, between=0):
    """Many in a row, each other than the one before; how long each took, and what is held after it."""
    taken, held = [], []
    for i in range(times):
        for tensor in weights.values():
            tensor.view(-1)[0] = i + 1
        taken.append(link.push(weights).seconds)
        if i in (0, times // 2, times - 1):
            held.append(state())
    return {"seconds": taken, "held": held}


def batches(count):
    seen = []
    for rows in link.batches():
        seen.append([[row.dialog, row.turn, row.response_ids.tolist(), row.reward] for row in rows])
        if len(seen) == count:
            break
    return seen


def bye():
    link.close()
    return True


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    name, arguments = json.loads(line)
    print(json.dumps(globals()[name](**arguments)), flush=True)
