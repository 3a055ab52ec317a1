"""Rows as padded torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .rows import Row

if TYPE_CHECKING:
    import torch


def collate(
    rows: Sequence[Row], *, pad_id: int = 0, max_length: int | None = None
) -> dict[str, torch.Tensor]:
    """Prompt and answer of N rows side by side, padded on the right to the longest, L ids.

    Returns a dict of tensors:
      ids            int64 (N, L)    prompt and answer
      attention_mask bool (N, L)     True on ids that are not padding
      loss_mask      bool (N, L)     True on sampled ids
      log_probs      float32 (N, L)  what sampled ids were sampled with, 0 elsewhere
      reward         float32 (N)
      group, member, dialog, turn    int64 (N)

    Raises ValueError for a row without log-probabilities, or one longer than `max_length`: a row
    that is cut would be trained on as if it had ended there.
    """
    import torch

    if not rows:
        raise ValueError("cannot collate: there are no rows")
    lengths = [len(row.prompt_ids) + len(row.response_ids) for row in rows]
    longest = max(lengths)
    if max_length is not None and longest > max_length:
        row = rows[lengths.index(longest)]
        raise ValueError(
            f"dialog {row.dialog}, turn {row.turn} has {longest} ids, above max_length {max_length}"
        )
    shape = (len(rows), longest)
    ids = torch.full(shape, pad_id, dtype=torch.int64)
    attention = torch.zeros(shape, dtype=torch.bool)
    loss = torch.zeros(shape, dtype=torch.bool)
    log_probs = torch.zeros(shape, dtype=torch.float32)
    for i, row in enumerate(rows):
        if row.log_probs is None:
            raise ValueError(f"dialog {row.dialog}, turn {row.turn} has no log-probabilities")
        start, end = len(row.prompt_ids), lengths[i]
        ids[i, :start] = torch.from_numpy(row.prompt_ids.astype("int64"))
        ids[i, start:end] = torch.from_numpy(row.response_ids.astype("int64"))
        attention[i, :end] = True
        loss[i, start:end] = True
        log_probs[i, start:end] = torch.from_numpy(row.log_probs.astype("float32"))
    numbers = {
        name: torch.tensor([getattr(row, name) for row in rows], dtype=torch.int64)
        for name in ("group", "member", "dialog", "turn")
    }
    return {
        "ids": ids,
        "attention_mask": attention,
        "loss_mask": loss,
        "log_probs": log_probs,
        "reward": torch.tensor([row.reward for row in rows], dtype=torch.float32),
        **numbers,
    }
