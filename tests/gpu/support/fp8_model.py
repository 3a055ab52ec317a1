"""A bfloat16 checkpoint as FP8 in blocks of 128 by 128: fp8_model.py FROM TO

The projections become float8_e4m3fn with `weight_scale_inv`, as DeepSeek's and Qwen's FP8 checkpoints
hold them; all else stays.
"""

import json
import os
import re
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

source, target = sys.argv[1:3]
shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
path = os.path.join(target, "config.json")
with open(path) as file:
    config = json.load(file)
config["quantization_config"] = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
}
with open(path, "w") as file:
    json.dump(config, file, indent=1)

weights = {}
for name, tensor in load_file(os.path.join(source, "model.safetensors")).items():
    if not re.search(r"_proj\.weight$", name):
        weights[name] = tensor
        continue
    rows, columns = tensor.shape
    # torch on the CPU, so that float32 divisions are IEEE's.
    blocks = tensor.float().reshape(rows // 128, 128, columns // 128, 128)
    scales = blocks.abs().amax(dim=(1, 3)) / 448
    weights[name] = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn).reshape(rows, columns)
    weights[name + "_scale_inv"] = scales.contiguous()
save_file(weights, os.path.join(target, "model.safetensors"), metadata={"format": "pt"})
