"""A rank of an FSDP2 trainer, each on a GPU of its own: fsdp_rank.py ADDRESS FOLDER RANK PORT PUSHES

Rank 0 reads a line before every push, and prints one of JSON after it.
"""

import json
import os
import sys

import torch
import torch.distributed as dist
from sglang_rl.trainer import WeightLink
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

address, folder, rank, port, pushes = sys.argv[1:6]
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=rank, WORLD_SIZE="2")
device = torch.device("cuda", int(rank))
torch.cuda.set_device(device)
dist.init_process_group("nccl", device_id=device)
mesh = init_device_mesh("cuda", (2,))
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device)
for layer in model.model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
torch.cuda.empty_cache()

with WeightLink(address, name="fsdp", connect_timeout=60, timeout=60) as link:
    for _ in range(int(pushes)):
        if rank == "0":
            sys.stdin.readline()
        report = link.push(model)
        told = {"seconds": report.seconds, "way": link.way, "held": torch.cuda.memory_allocated()}
        print(json.dumps(told), flush=True)
dist.barrier()
os._exit(0)
