"""A rank of a torch gloo group for torch_test.ts, made as SGLang makes it.

Usage: rank.py PORT RANK WORLD SPEC, where SPEC is a comma list of dtype:elements, broadcast at once.
Prints one JSON line: the SHA-256 of each tensor, or the error.
"""
import hashlib
import json
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import (
    Backend,
    PrefixStore,
    _new_process_group_helper,
    _world,
    rendezvous,
)

NAME = "weight_update_group"
port, rank, world = (int(text) for text in sys.argv[1:4])
spec = [(dtype, int(count)) for dtype, count in (part.split(":") for part in sys.argv[4].split(","))]
timeout = timedelta(seconds=120)
torch.set_num_threads(1)


def init_custom_process_group():
    store, _, _ = next(rendezvous(f"tcp://127.0.0.1:{port}", rank, world, timeout=timeout))
    store.set_timeout(timeout)
    store = PrefixStore(NAME, store)
    group, _ = _new_process_group_helper(
        world, rank, [], Backend("gloo"), store, group_name=NAME, timeout=timeout, device_id=None
    )
    _world.pg_group_ranks[group] = {i: i for i in range(world)}
    return group


def make(seed, dtype, count):
    kind = getattr(torch, dtype)
    if rank != 0 or count == 0:
        return torch.zeros(count, dtype=kind)
    size = count * torch.empty(0, dtype=kind).element_size()
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator).view(kind)


def sha256(tensor):
    data = tensor.view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return hashlib.sha256(data).hexdigest()


# SGLang has a default group of its own.
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
try:
    group = init_custom_process_group()
    for round in range(2):
        tensors = [make(100 * round + i, dtype, count) for i, (dtype, count) in enumerate(spec)]
        for work in [dist.broadcast(tensor, src=0, group=group, async_op=True) for tensor in tensors]:
            work.wait()
        print(json.dumps({"sha256": [sha256(tensor) for tensor in tensors]}), flush=True)
    dist.destroy_process_group(group)
except Exception as error:
    print(json.dumps({"error": str(error)}), flush=True)
