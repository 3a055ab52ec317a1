"""A rank of a gloo group in torch: gloo_rank.py PORT RANK WORLD MIB TIMES, rank 0 sends.

Prints the seconds since the epoch at which each broadcast ended (and, of rank 0, began), and the time
of the processor, as one line of JSON.
"""
import json
import sys
import time
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

port, rank, world, mib, times = map(int, sys.argv[1:6])
torch.set_num_threads(1)
wait = timedelta(seconds=120)
name = "weight_update_group"
# As SGLang makes its group of weights.
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
store, _, _ = next(rendezvous(f"tcp://127.0.0.1:{port}", rank, world, timeout=wait))
store.set_timeout(wait)
group, _ = _new_process_group_helper(
    world, rank, [], Backend("gloo"), PrefixStore(name, store), group_name=name, timeout=wait
)
_world.pg_group_ranks[group] = {i: i for i in range(world)}
tensor = torch.full((mib * 2**20,), 1 if rank == 0 else 0, dtype=torch.uint8)
if rank == 0:
    time.sleep(0.5)
used = time.process_time()
spans = []
for _ in range(times):
    began = time.time()
    dist.broadcast(tensor, src=0, group=group, async_op=True).wait()
    spans.append([began, time.time()])
print(json.dumps({"spans": spans, "used": time.process_time() - used}), flush=True)
time.sleep(0.5)
