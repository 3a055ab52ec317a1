"""A GRPO trainer on a CPU: clipped importance ratios against the log-probabilities of the servers.

It speaks JSON lines. For each {"step", "batch", "advantages", "weights", "checkpoint"} on standard
input it reads the rows of `batch`, takes one step with one advantage for each row, writes the new
weights to `weights` (safetensors) and what it needs to go on to `checkpoint`, and answers with
{"step", "loss", "trained"}: `trained` has its own log-probabilities of each row before the step.

usage: trainer.py CHECKPOINT [--learning-rate 0.005] [--resume FILE]
"""

import argparse
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from sglang_rl import collate, read_rows

CLIP = 0.2


def log_probs_of(model, rows):
    """Log-probability of every sampled token, one tensor a row."""
    # Pads are on the right and attention is causal, so they change nothing before them.
    ids = collate(rows)["ids"]
    logits = model(ids).logits.log_softmax(-1)
    result = []
    for i, row in enumerate(rows):
        start, count = len(row.prompt_ids), len(row.response_ids)
        scores = logits[i, start - 1 : start - 1 + count]
        result.append(scores.gather(-1, ids[i, start : start + count, None])[:, 0])
    return result


def step(model, optimizer, rows, advantages):
    """One step on the clipped objective of PPO, with a constant divisor as in Dr. GRPO."""
    scores = log_probs_of(model, rows)
    longest = max(len(row.response_ids) for row in rows)
    losses = []
    for score, row, advantage in zip(scores, rows, advantages):
        ratio = (score - torch.tensor(row.log_probs)).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        losses.append(-torch.minimum(ratio * advantage, clipped * advantage).sum())
    loss = torch.stack(losses).sum() / (len(rows) * longest)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {"loss": float(loss.detach()), "trained": [score.detach().tolist() for score in scores]}


def save(write, path):
    """The file appears whole or not at all."""
    write(path + ".part")
    os.replace(path + ".part", path)


def weights_of(model):
    tensors = {name: weight.detach().contiguous() for name, weight in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    return tensors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--resume")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    if options.resume:
        saved = torch.load(options.resume, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        numbers = step(model, optimizer, read_rows(request["batch"]), request["advantages"])
        save(lambda path: save_file(weights_of(model), path, metadata={"format": "pt"}), request["weights"])
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        save(lambda path: torch.save(state, path), request["checkpoint"])
        print(json.dumps({"step": request["step"], **numbers}), flush=True)


if __name__ == "__main__":
    main()
