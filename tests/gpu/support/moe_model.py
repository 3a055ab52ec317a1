"""Writes a small random Qwen3-MoE checkpoint: moe_model.py FOLDER SEED TEMPLATE."""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file

folder, seed, template = sys.argv[1], int(sys.argv[2]), sys.argv[3]
HIDDEN, VOCABULARY, LAYERS, HEADS, KV_HEADS, HEAD, EXPERTS, INNER = 512, 1024, 4, 8, 2, 64, 16, 256
shutil.copytree(template, folder, dirs_exist_ok=True)
config = dict(
    architectures=["Qwen3MoeForCausalLM"],
    model_type="qwen3_moe",
    vocab_size=VOCABULARY,
    hidden_size=HIDDEN,
    intermediate_size=1024,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    num_key_value_heads=KV_HEADS,
    head_dim=HEAD,
    hidden_act="silu",
    max_position_embeddings=4096,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    tie_word_embeddings=False,
    attention_bias=False,
    use_sliding_window=False,
    decoder_sparse_step=1,
    moe_intermediate_size=INNER,
    num_experts_per_tok=4,
    num_experts=EXPERTS,
    norm_topk_prob=True,
    mlp_only_layers=[],
    torch_dtype="bfloat16",
    bos_token_id=0,
    eos_token_id=1,
)
with open(os.path.join(folder, "config.json"), "w") as file:
    json.dump(config, file, indent=1)
random = torch.Generator().manual_seed(seed)
weights = {}


def add(name, *shape):
    values = torch.randn(shape, generator=random)
    values = 1 + 0.1 * values if "norm" in name else 0.05 * values
    weights[name] = values.to(torch.bfloat16)


add("model.embed_tokens.weight", VOCABULARY, HIDDEN)
add("model.norm.weight", HIDDEN)
add("lm_head.weight", VOCABULARY, HIDDEN)
for i in range(LAYERS):
    layer = f"model.layers.{i}."
    add(layer + "self_attn.q_proj.weight", HEADS * HEAD, HIDDEN)
    add(layer + "self_attn.k_proj.weight", KV_HEADS * HEAD, HIDDEN)
    add(layer + "self_attn.v_proj.weight", KV_HEADS * HEAD, HIDDEN)
    add(layer + "self_attn.o_proj.weight", HIDDEN, HEADS * HEAD)
    add(layer + "self_attn.q_norm.weight", HEAD)
    add(layer + "self_attn.k_norm.weight", HEAD)
    add(layer + "mlp.gate.weight", EXPERTS, HIDDEN)
    for expert in range(EXPERTS):
        add(layer + f"mlp.experts.{expert}.gate_proj.weight", INNER, HIDDEN)
        add(layer + f"mlp.experts.{expert}.up_proj.weight", INNER, HIDDEN)
        add(layer + f"mlp.experts.{expert}.down_proj.weight", HIDDEN, INNER)
    add(layer + "input_layernorm.weight", HIDDEN)
    add(layer + "post_attention_layernorm.weight", HIDDEN)
save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
