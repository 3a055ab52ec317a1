"""A minimal policy-gradient trainer: REINFORCE with a baseline, on a CPU.

It speaks JSON lines: for each {"step", "batch", "weights"} on standard input it reads the rows of
`batch`, takes one step, writes the new weights to `weights` (safetensors) and answers with
{"step", "loss", "mean_reward", "log_prob_gap"} on standard output.

With --link the request is only {"step"}: the rows come over the link, the weights go back over it.

usage: trainer.py CHECKPOINT [--learning-rate 0.005] [--link ADDRESS]
"""

import argparse
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from sglang_rl import WeightLink, collate, read_rows


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


def step(model, optimizer, rows):
    """One REINFORCE step; the baseline is the batch's mean reward."""
    rows = [row for row in rows if len(row.response_ids) > 0]
    rewards = torch.tensor([row.reward for row in rows])
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
    scores = log_probs_of(model, rows)
    # How far the trainer's log-probabilities are from those that the servers sampled with.
    gap = max(float((s.detach() - torch.tensor(row.log_probs)).abs().max()) for s, row in zip(scores, rows))
    weighted = [advantage * score.sum() for advantage, score in zip(advantages, scores)]
    loss = -torch.stack(weighted).sum() / sum(len(row.response_ids) for row in rows)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {"loss": float(loss.detach()), "mean_reward": float(rewards.mean()), "log_prob_gap": gap}


def save_weights(model, path):
    """Writes the weights; the file appears whole or not at all."""
    tensors = {name: weight.detach().contiguous() for name, weight in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file(tensors, path + ".part", metadata={"format": "pt"})
    os.replace(path + ".part", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--link")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    link = WeightLink(options.link) if options.link else None
    batches = link.batches() if link else None
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if link:
            numbers = step(model, optimizer, next(batches))
            link.push(model)
        else:
            numbers = step(model, optimizer, read_rows(request["batch"]))
            save_weights(model, request["weights"])
        print(json.dumps({"step": request["step"], **numbers}), flush=True)


if __name__ == "__main__":
    main()
