"""Reads the rows that the Deno side writes: safetensors or JSON lines (docs/collector.md)."""

import json
from dataclasses import dataclass

import torch
from safetensors import safe_open

SCHEMA = "sglang-rl.rollout/1"


@dataclass
class Row:
    """One turn of a dialog."""

    dialog: int
    turn: int
    prompt_ids: torch.Tensor
    response_ids: torch.Tensor
    log_probs: torch.Tensor
    token_versions: torch.Tensor
    reward: float
    done: bool
    stale: bool


def read_rows(path):
    """The rows of a batch file, in the batch's order."""
    return _read_json_lines(path) if path.endswith(".jsonl") else _read_safetensors(path)


def _read_safetensors(path):
    with safe_open(path, framework="pt") as file:
        _check_schema(file.metadata()["schema"], path)
        columns = {name: file.get_tensor(name) for name in file.keys()}
    prompts = columns["prompt_offsets"].tolist()
    responses = columns["response_offsets"].tolist()
    rows = []
    for i, reward in enumerate(columns["reward"].tolist()):
        answer = slice(responses[i], responses[i + 1])
        rows.append(
            Row(
                dialog=int(columns["dialog"][i]),
                turn=int(columns["turn"][i]),
                prompt_ids=columns["prompt_ids"][prompts[i] : prompts[i + 1]].long(),
                response_ids=columns["response_ids"][answer].long(),
                log_probs=columns["log_probs"][answer],
                token_versions=columns["token_versions"][answer],
                reward=reward,
                done=bool(columns["done"][i]),
                stale=bool(columns["stale"][i]),
            )
        )
    return rows


def _read_json_lines(path):
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            _check_schema(record["schema"], path)
            rows.append(
                Row(
                    dialog=record["dialog"],
                    turn=record["turn"],
                    prompt_ids=torch.tensor(record["prompt_ids"]),
                    response_ids=torch.tensor(record["response_ids"]),
                    log_probs=torch.tensor(record["log_probs"]),
                    token_versions=torch.tensor(record["token_versions"], dtype=torch.int32),
                    reward=record["reward"],
                    done=record["done"],
                    stale=record["stale"],
                )
            )
    return rows


def _check_schema(schema, path):
    if schema != SCHEMA:
        raise ValueError(f"{path} has the schema {schema}, expected {SCHEMA}")
