"""Sampling with torch on one thread, for bench/embedded.ts.

Reads orders from standard input, one JSON a line: {"folder", "inputIds", "tokens"}; answers each with
seconds of the processor.
"""
import json
import resource
import sys

import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
torch.set_grad_enabled(False)
models = {}


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def sample(order: dict) -> float:
    folder = order["folder"]
    if folder not in models:
        models[folder] = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model = models[folder]
    ids = torch.tensor(order["inputIds"])
    started = used()
    cache = None
    log_probs = []
    for _ in range(order["tokens"]):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        scores = torch.log_softmax(out.logits[:, -1], dim=-1)
        ids = torch.multinomial(scores.exp(), 1)
        log_probs.append(scores.gather(1, ids))
    assert torch.cat(log_probs, 1).shape == (len(order["inputIds"]), order["tokens"])
    return used() - started


for text in sys.stdin:
    print(json.dumps(sample(json.loads(text))), flush=True)
