"""Two CPU ranks of FSDP2 that push one model: fsdp_trainer.py ADDRESS FOLDER RANK PORT [tp]

Prints a line of JSON: what the push came to, and the largest tensor that was gathered beside what the
rank holds.
"""

import json
import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from transformers import AutoModelForCausalLM
from sglang_rl.trainer import LinkError, WeightLink

address, folder, rank, port = sys.argv[1:5]
torch.set_num_threads(1)
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=rank, WORLD_SIZE="2")
dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
if sys.argv[5:] == ["tp"]:
    # As tensor parallelism leaves them: some split by columns, some by rows, some whole.
    weights = {
        name: distribute_tensor(tensor, mesh, [Shard(1 if "down_proj" in name or "o_proj" in name else 0)])
        if tensor.dim() == 2
        else tensor
        for name, tensor in model.state_dict().items()
    }
else:
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    weights = model

with WeightLink(address, connect_timeout=30) as link:
    for names in (None, ["model.embed_tokens.weight"]):
        chosen = weights
        if names is not None:
            state = weights if isinstance(weights, dict) else weights.state_dict()
            chosen = {name: state[name] for name in names}
        try:
            report = link.push(chosen, version="sharded" if names is None else None)
            print(json.dumps({"version": report.version, "connected": link.way is not None}), flush=True)
        except LinkError as error:
            told = {"error": type(error).__name__, "message": str(error), "code": error.code}
            print(json.dumps(told), flush=True)
dist.destroy_process_group()
