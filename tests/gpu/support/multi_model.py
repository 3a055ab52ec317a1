"""Writes one shard of a random checkpoint with the names and shapes of Qwen2.5-7B: 339 tensors, 15.2 GB
in bfloat16: multi_model.py FOLDER SHARD SHARDS. Run it once for every shard, all at the same time.

SHARD "config" writes the folder's config, tokenizer and index instead, which need no GPU. The config
says 56 heads of 64 where Qwen2.5-7B has 28 of 128 (and 8 KV heads for its 4): every tensor has the
same shape, and the kernels built ahead for heads of 64 serve it.
"""
import json
import os
import shutil
import sys

from safetensors.torch import save_file

GPU_SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../scripts/gpu")
sys.path.insert(0, GPU_SCRIPTS)
from make_model import shapes_of  # noqa: E402

SIZE = dict(vocab=152064, hidden=3584, inner=18944, layers=28, heads=56, kv_heads=8)


def all_shapes():
    shapes = shapes_of(**SIZE)
    shapes["lm_head.weight"] = [SIZE["vocab"], SIZE["hidden"]]
    return shapes


def size_bytes(shape):
    count = 2
    for length in shape:
        count *= length
    return count


def split(shapes, shards):
    """Names of each shard: consecutive tensors of about equal sizes."""
    total = sum(map(size_bytes, shapes.values()))
    parts, used = [[] for _ in range(shards)], 0
    for name, shape in shapes.items():
        parts[min(shards - 1, used * shards // total)].append(name)
        used += size_bytes(shape)
    return parts


def file_name(shard, shards):
    return f"model-{shard + 1:05}-of-{shards:05}.safetensors"


def write_config(folder, shards):
    shutil.copytree(os.path.join(GPU_SCRIPTS, "model"), folder, dirs_exist_ok=True)
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    config.update(
        vocab_size=SIZE["vocab"],
        hidden_size=SIZE["hidden"],
        intermediate_size=SIZE["inner"],
        num_hidden_layers=SIZE["layers"],
        num_attention_heads=SIZE["heads"],
        num_key_value_heads=SIZE["kv_heads"],
        tie_word_embeddings=False,
        layer_types=["full_attention"] * SIZE["layers"],
        max_window_layers=SIZE["layers"],
    )
    with open(path, "w") as file:
        json.dump(config, file, indent=1)
    shapes = all_shapes()
    weight_map = {
        name: file_name(shard, shards)
        for shard, names in enumerate(split(shapes, shards))
        for name in names
    }
    total = sum(map(size_bytes, shapes.values()))
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, file)


def write_shard(folder, shard, shards):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = all_shapes()
    random = torch.Generator(device=device).manual_seed(shard)

    def tensor(name):
        values = torch.randn(shapes[name], generator=random, device=device)
        values = 1 + 0.1 * values if "norm" in name else 0.02 * values
        return values.to(torch.bfloat16).cpu()

    path = os.path.join(folder, file_name(shard, shards))
    weights = {name: tensor(name) for name in split(shapes, shards)[shard]}
    save_file(weights, path, metadata={"format": "pt"})


if __name__ == "__main__":
    target, which, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if which == "config":
        write_config(target, count)
    else:
        write_shard(target, int(which), count)
