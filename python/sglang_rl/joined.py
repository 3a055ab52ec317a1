"""The turns of a dialog as one row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .rows import Row


@dataclass(eq=False)
class JoinedRow:
    """Turns of one dialog whose ids go on from each other: N ids, of which some were sampled."""

    dialog: int
    attempt: int
    group: int
    member: int
    branch: int
    """0 for the first row of a dialog, 1 for its first branch."""
    ids: np.ndarray
    """int32 (N): prompt and answer of the last turn."""
    loss_mask: np.ndarray
    """bool (N): True on ids that were sampled in one of the turns."""
    log_probs: np.ndarray | None
    """float32 (N): what sampled ids were sampled with, 0 elsewhere; None where a turn has none."""
    reward: float
    """Sum of the turns' rewards."""
    turns: list[Row]


def join_turns(rows: Iterable[Row]) -> list[JoinedRow]:
    """One row for all turns of a dialog whose ids go on from each other, and one for each branch.

    A turn whose prompt begins with the ids of the turn before, prompt and answer, goes on with its
    row; any other begins a row. Every sampled id is in exactly one of them, with the log-probability
    that it was sampled with. Dialogs come in the order in which they appear, as `batch.joined()` of
    sglang-rl gives them.
    """
    dialogs: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        dialogs.setdefault((row.dialog, row.attempt), []).append(row)
    return [
        _joined(turns, branch)
        for dialog in dialogs.values()
        for branch, turns in enumerate(_runs(dialog))
    ]


def _runs(dialog: list[Row]) -> list[list[Row]]:
    runs: list[list[Row]] = []
    for row in dialog:
        if runs and _goes_on(runs[-1][-1], row):
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _goes_on(before: Row, row: Row) -> bool:
    start = len(before.prompt_ids)
    end = start + len(before.response_ids)
    # A prompt that nobody knows is empty.
    return (
        0 < start <= end <= len(row.prompt_ids)
        and np.array_equal(row.prompt_ids[:start], before.prompt_ids)
        and np.array_equal(row.prompt_ids[start:end], before.response_ids)
    )


def _joined(turns: list[Row], branch: int) -> JoinedRow:
    last = turns[-1]
    ids = np.concatenate([last.prompt_ids, last.response_ids]).astype(np.int32)
    mask = np.zeros(len(ids), dtype=bool)
    has_log_probs = all(turn.log_probs is not None for turn in turns)
    log_probs = np.zeros(len(ids), dtype=np.float32) if has_log_probs else None
    for turn in turns:
        sampled = slice(len(turn.prompt_ids), len(turn.prompt_ids) + len(turn.response_ids))
        mask[sampled] = True
        if log_probs is not None:
            log_probs[sampled] = turn.log_probs
    return JoinedRow(
        dialog=last.dialog,
        attempt=last.attempt,
        group=last.group,
        member=last.member,
        branch=branch,
        ids=ids,
        loss_mask=mask,
        log_probs=log_probs,
        reward=sum(turn.reward for turn in turns),
        turns=turns,
    )
