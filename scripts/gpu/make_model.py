"""Random Qwen2 checkpoints: make_model.py FOLDER KIND SEED, where KIND is tiny or q05b (the exact
shapes of Qwen2.5-0.5B: 290 tensors, 988 MB in bfloat16). Needs torch and safetensors only."""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file

SIZES = {
    "tiny": dict(vocab=1024, hidden=256, inner=512, layers=2, heads=4, kv_heads=2),
    "q05b": dict(vocab=151936, hidden=896, inner=4864, layers=24, heads=14, kv_heads=2),
}


def shapes_of(vocab, hidden, inner, layers, heads, kv_heads):
    head = hidden // heads
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden]}
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name, outputs in (("q", heads * head), ("k", kv_heads * head), ("v", kv_heads * head)):
            shapes[f"{layer}self_attn.{name}_proj.weight"] = [outputs, hidden]
            shapes[f"{layer}self_attn.{name}_proj.bias"] = [outputs]
        shapes[f"{layer}self_attn.o_proj.weight"] = [hidden, heads * head]
        shapes[f"{layer}mlp.gate_proj.weight"] = [inner, hidden]
        shapes[f"{layer}mlp.up_proj.weight"] = [inner, hidden]
        shapes[f"{layer}mlp.down_proj.weight"] = [hidden, inner]
        shapes[f"{layer}input_layernorm.weight"] = [hidden]
        shapes[f"{layer}post_attention_layernorm.weight"] = [hidden]
    return shapes


def main():
    folder, kind, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    size = SIZES[kind]
    template = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model")
    shutil.copytree(template, folder, dirs_exist_ok=True)
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    config.update(
        vocab_size=size["vocab"],
        hidden_size=size["hidden"],
        intermediate_size=size["inner"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv_heads"],
        layer_types=["full_attention"] * size["layers"],
        max_window_layers=size["layers"],
    )
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random = torch.Generator(device=device).manual_seed(seed)

    def tensor(name, shape):
        values = torch.randn(shape, generator=random, device=device)
        if "norm" in name:
            values = 1 + 0.1 * values
        else:
            values = (0.1 if name.endswith("bias") else 0.05) * values
        return values.to(torch.bfloat16).cpu()

    weights = {name: tensor(name, shape) for name, shape in shapes_of(**size).items()}
    save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    main()
