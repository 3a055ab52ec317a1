"""Shared memory between a trainer and rank 0."""

from __future__ import annotations

import mmap
import os
from collections import deque
from typing import Any


class _Ring:
    """Shared memory that rank 0 made and this side fills slot by slot."""

    def __init__(self, offer: dict[str, Any]):
        self.slot_bytes = int(offer["slotBytes"])
        self.header_bytes = int(offer["headerBytes"])
        slots = int(offer["slots"])
        descriptor = os.open(offer["path"], os.O_RDWR | os.O_CLOEXEC)
        try:
            # Another process may have this number here: only the token tells that it is the ring.
            self.memory = mmap.mmap(descriptor, self.header_bytes + slots * self.slot_bytes)
        finally:
            os.close(descriptor)
        if self.memory[:32].hex() != offer["token"]:
            self.memory.close()
            raise OSError("the memory at that place is another's")
        self.free = deque(range(slots))

    def fill(self, slot: int, flat: Any, begin: int, end: int) -> None:
        import torch

        at = self.header_bytes + slot * self.slot_bytes
        target = torch.frombuffer(self.memory, dtype=torch.uint8, offset=at, count=end - begin)
        target.copy_(flat[begin:end])

    def close(self) -> None:
        try:
            self.memory.close()
        except BufferError:
            pass  # A tensor of a slot still lives; it goes with it.
