"""A rank of torch's gloo group, for bench/gloo.ts: PORT RANK WORLD MIB ROUNDS.

Rank 0 of torch stands beside ours. Prints seconds of the processor that the broadcasts took.
"""
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

port, rank, world, mib, rounds = map(int, sys.argv[1:6])
torch.set_num_threads(1)
limit = timedelta(seconds=120)
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
store, _, _ = next(rendezvous(f"tcp://127.0.0.1:{port}", rank, world, timeout=limit))
store.set_timeout(limit)
group, _ = _new_process_group_helper(
    world,
    rank,
    [],
    Backend("gloo"),
    PrefixStore("weight_update_group", store),
    group_name="weight_update_group",
    timeout=limit,
    device_id=None,
)
_world.pg_group_ranks[group] = {i: i for i in range(world)}
tensor = torch.full((mib * 2**20,), 1 if rank == 0 else 0, dtype=torch.uint8)
# The others are ready by then.
time.sleep(1)
started = time.process_time()
for _ in range(rounds):
    dist.broadcast(tensor, src=0, group=group, async_op=True).wait()
print(time.process_time() - started, flush=True)
assert rank == 0 or int(tensor.min()) == 1
time.sleep(1)
