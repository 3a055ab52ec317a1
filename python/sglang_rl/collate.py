"""Rows as padded torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .joined import JoinedRow
from .rows import Row

if TYPE_CHECKING:
    import torch


def collate(
    rows: Sequence[Row] | Sequence[JoinedRow], *, pad_id: int = 0, max_length: int | None = None
) -> dict[str, torch.Tensor]:
    """N rows of ids, padded on the right to the longest, L ids: turns, or joined turns.

    Returns a dict of tensors:
      ids            int64 (N, L)    prompt and answer
      attention_mask bool (N, L)     True on ids that are not padding
      loss_mask      bool (N, L)     True on sampled ids
      log_probs      float32 (N, L)  what sampled ids were sampled with, 0 elsewhere
      reward         float32 (N)
      group, member, dialog    int64 (N)
      turn           int64 (N)       of joined turns the last one

    Raises ValueError for a row without log-probabilities, or one longer than `max_length`: a row
    that is cut would be trained on as if it had ended there.
    """
    import torch

    if not rows:
        raise ValueError("cannot collate: there are no rows")
    for row in rows:
        length = len(_ids(row))
        if max_length is not None and length > max_length:
            raise ValueError(f"{_name(row)} has {length} ids, above max_length {max_length}")
        if row.log_probs is None:
            raise ValueError(f"{_name(row)} has no log-probabilities")
    shape = (len(rows), max(len(_ids(row)) for row in rows))
    ids = torch.full(shape, pad_id, dtype=torch.int64)
    attention = torch.zeros(shape, dtype=torch.bool)
    loss = torch.zeros(shape, dtype=torch.bool)
    log_probs = torch.zeros(shape, dtype=torch.float32)
    for i, row in enumerate(rows):
        own = _ids(row)
        is_joined = isinstance(row, JoinedRow)
        start = 0 if is_joined else len(row.prompt_ids)
        ids[i, : len(own)] = torch.from_numpy(own.astype("int64"))
        attention[i, : len(own)] = True
        loss[i, start : len(own)] = torch.from_numpy(row.loss_mask) if is_joined else True
        log_probs[i, start : len(own)] = torch.from_numpy(row.log_probs.astype("float32"))
    numbers = {
        name: torch.tensor([getattr(row, name) for row in rows], dtype=torch.int64)
        for name in ("group", "member", "dialog")
    }
    return {
        "ids": ids,
        "attention_mask": attention,
        "loss_mask": loss,
        "log_probs": log_probs,
        "reward": torch.tensor([row.reward for row in rows], dtype=torch.float32),
        "turn": torch.tensor([_last_turn(row) for row in rows], dtype=torch.int64),
        **numbers,
    }


def _ids(row: Row | JoinedRow) -> np.ndarray:
    if isinstance(row, JoinedRow):
        return row.ids
    return np.concatenate([row.prompt_ids, row.response_ids])


def _last_turn(row: Row | JoinedRow) -> int:
    return row.turns[-1].turn if isinstance(row, JoinedRow) else row.turn


def _name(row: Row | JoinedRow) -> str:
    return f"dialog {row.dialog}, turn {_last_turn(row)}"
