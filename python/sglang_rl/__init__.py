"""Rows that sglang-rl collects, for trainers in Python, and weights back to it."""

from .collate import collate
from .joined import JoinedRow, join_turns
from .rows import Row, iter_rows, read_rows
from .trainer import LinkError, LinkLost, LinkRefused, PushFailed, PushReport, WeightLink

__all__ = [
    "JoinedRow",
    "LinkError",
    "LinkLost",
    "LinkRefused",
    "PushFailed",
    "PushReport",
    "Row",
    "WeightLink",
    "collate",
    "iter_rows",
    "join_turns",
    "read_rows",
]
