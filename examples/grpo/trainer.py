"""A GRPO trainer on a CPU: clipped importance ratios against the log-probabilities of the servers.

It speaks JSON lines. For each {"step", "advantages", "checkpoint"} on standard input it takes the rows of
a batch, joins the turns of each dialog, takes one step with the advantage of each joined row, writes what
it needs to go on to `checkpoint`, hands its weights over, and answers with {"step", "loss", "trained"}:
`trained` has its own log-probabilities of each joined row before the step, 0 on ids of prompts. Without
"advantages" it only hands its weights over.

Rows come as the file "batch" and weights go as the file "weights" of the request (safetensors), or with
--link both go over a link.

usage: trainer.py CHECKPOINT [--learning-rate 0.005] [--resume FILE] [--link ADDRESS]
"""

import argparse
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from sglang_rl import WeightLink, collate, join_turns, read_rows

CLIP = 0.2


def log_probs_of(model, ids, mask):
    """Log-probability of each sampled id by the model (N, L), 0 elsewhere."""
    # Pads are on the right and attention is causal, so they change nothing before them.
    scores = model(ids[:, :-1]).logits.log_softmax(-1)
    chosen = scores.gather(-1, ids[:, 1:, None])[:, :, 0]
    return torch.nn.functional.pad(chosen, (1, 0)) * mask


def step(model, optimizer, rows, advantages):
    """One step on the clipped objective of PPO, with a constant divisor as in Dr. GRPO."""
    dialogs = join_turns(rows)
    batch = collate(dialogs)
    mask = batch["loss_mask"]
    scores = log_probs_of(model, batch["ids"], mask)
    ratio = (scores - batch["log_probs"]).exp()
    advantage = torch.tensor(advantages)[:, None]
    objective = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
    loss = -(objective * mask).sum() / (len(dialogs) * int(mask.sum(1).max()))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    trained = [row[: len(dialog.ids)].tolist() for row, dialog in zip(scores.detach(), dialogs)]
    return {"loss": float(loss.detach()), "trained": trained}


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
    parser.add_argument("--link")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(options.checkpoint, dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    if options.resume:
        saved = torch.load(options.resume, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    link = WeightLink(options.link) if options.link else None
    batches = link.batches() if link else None
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        numbers = {}
        if "advantages" in request:
            rows = next(batches) if link else read_rows(request["batch"])
            numbers = step(model, optimizer, rows, request["advantages"])
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save(lambda path: torch.save(state, path), request["checkpoint"])
        if link:
            link.push(model)
        else:
            save(lambda path: save_file(weights_of(model), path, metadata={"format": "pt"}), request["weights"])
        print(json.dumps({"step": request["step"], **numbers}), flush=True)


if __name__ == "__main__":
    main()
