"""Rows that sglang-rl collects, for trainers in Python."""

from .collate import collate
from .rows import Row, iter_rows, read_rows

__all__ = ["Row", "collate", "iter_rows", "read_rows"]
