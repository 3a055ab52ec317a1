"""A rank of a weight update group, in torch, built as SGLang builds it.

Reads one JSON command a line from stdin and answers each with one JSON line on stdout:
  {"cmd": "join", "port": P, "group": G, "world": W, "rank": R}
  {"cmd": "receive", "tensors": [{"dtype": "float32", "shape": [2, 3]}, ...]}  -> sha256 of each
  {"cmd": "broadcast", "dtype": "uint8", "count": N, "times": T}  -> seconds until the device is done
  {"cmd": "free"}  -> gives cached device memory back
  {"cmd": "destroy"}
Rank 0 hosts the store and sends; the other ranks receive.
"""
import hashlib
import json
import sys
import time

import torch
import torch.distributed as dist
from torch_group import join_group

group = None
buffers = {}


def join(port, name, world, rank):
    global group
    group = join_group(port, name, world, rank)
    return {}


def receive(tensors):
    received = []
    for info in tensors:
        dtype = getattr(torch, info["dtype"])
        tensor = torch.full(info["shape"], 1, device="cuda").to(dtype)
        dist.broadcast(tensor, src=0, group=group)
        received.append(tensor)
    torch.cuda.synchronize()
    return {"sha256": [digest(tensor) for tensor in received]}


def digest(tensor):
    flat = tensor.flatten().view(torch.uint8).cpu() if tensor.numel() else torch.empty(0)
    return hashlib.sha256(memoryview(flat.numpy())).hexdigest()


def broadcast(dtype, count, times):
    key = (dtype, count)
    if key not in buffers:
        buffers[key] = torch.zeros(count, dtype=getattr(torch, dtype), device="cuda")
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        dist.broadcast(buffers[key], src=0, group=group)
    torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - start}


def destroy():
    global group
    dist.destroy_process_group(group)
    group = None
    return {}


def free():
    buffers.clear()
    torch.cuda.empty_cache()
    return {}


def run(command):
    name = command.pop("cmd")
    if name == "join":
        return join(command["port"], command["group"], command["world"], command["rank"])
    if name == "receive":
        return receive(command["tensors"])
    if name == "broadcast":
        return broadcast(command["dtype"], command["count"], command["times"])
    return {"destroy": destroy, "free": free}[name]()


def main():
    torch.cuda.set_device(0)
    torch.zeros(1, device="cuda")
    print(json.dumps({"ready": torch.cuda.nccl.version()}), flush=True)
    for line in sys.stdin:
        try:
            answer = run(json.loads(line))
        except Exception as error:  # the other side reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
