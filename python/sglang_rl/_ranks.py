"""The ranks of a trainer whose tensors are sharded."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from ._errors import LinkError, LinkLost, LinkRefused, PushFailed, PushReport
from ._tensors import _Tensors


class _Ranks:
    """The ranks of a trainer whose tensors are sharded: all gather what rank 0 sends.

    They wait for each other on the CPU: a rank that waits in a collective of NCCL keeps its GPU busy,
    and others on that GPU, such as a server, slow.
    """

    _made: ClassVar[tuple[Any, Any] | None] = None

    def __init__(self, rank: int):
        import torch
        import torch.distributed as dist

        self.rank = rank
        self._dist = dist
        self._group = self._on_cpu(dist)
        self._index = torch.zeros(1, dtype=torch.int64)

    @classmethod
    def _on_cpu(cls, dist: Any) -> Any:
        """A group of all ranks that talks by gloo, made once for each default group."""
        if str(dist.get_backend()) == "gloo":
            return None
        world = dist.group.WORLD
        # The default group itself is kept beside it: a number of one that is gone may come again.
        if cls._made is None or cls._made[0] is not world:
            # A push may wait long until it is taken up; a rank that dies ends the waiting at once.
            cls._made = (world, dist.new_group(backend="gloo", timeout=timedelta(days=1)))
        return cls._made[1]

    @staticmethod
    def of(tensors: _Tensors) -> _Ranks | None:
        if not tensors.is_sharded:
            return None
        import torch.distributed as dist

        return _Ranks(dist.get_rank()) if dist.is_initialized() and dist.get_world_size() > 1 else None

    def lead(self, index: int) -> None:
        """Lets the other ranks gather a tensor."""
        self._index.fill_(index)
        self._dist.broadcast(self._index, 0, group=self._group)

    def shards(self, tensors: _Tensors) -> list[dict[str, Any]]:
        """What every rank says of its shards."""
        self.lead(-2)
        return self._gather_shards(tensors)

    def _gather_shards(self, tensors: _Tensors) -> list[dict[str, Any]]:
        every: list[Any] = [None] * self._dist.get_world_size()
        self._dist.all_gather_object(every, tensors.local_shards(), group=self._group)
        return every

    def end(self, outcome: PushReport | BaseException) -> None:
        """Tells the other ranks how the push ended."""
        self.lead(-1)
        self._dist.broadcast_object_list([_portable(outcome)], 0, group=self._group)

    def follow(self, tensors: _Tensors) -> PushReport:
        """Gathers what rank 0 sends; ends as rank 0 does."""
        while True:
            self._dist.broadcast(self._index, 0, group=self._group)
            index = int(self._index.item())
            if index == -1:
                break
            if index == -2:
                self._gather_shards(tensors)
            else:
                tensors.gathered(index)
        told: list[Any] = [None]
        self._dist.broadcast_object_list(told, 0, group=self._group)
        if isinstance(told[0], PushReport):
            return told[0]
        raise _from_portable(told[0])


def _portable(outcome: PushReport | BaseException) -> Any:
    if isinstance(outcome, PushReport):
        return outcome
    fields = {"phase": "push", **vars(outcome)}
    return {"kind": type(outcome).__name__, "message": str(outcome), **fields}


def _from_portable(told: dict[str, Any]) -> Exception:
    """The error of rank 0 again."""
    message, phase = f"rank 0 of the trainer: {told['message']}", str(told["phase"])
    if told["kind"] == "PushFailed":
        return PushFailed(message, told["code"], phase, told["step"], told["server"])
    if told["kind"] == "LinkRefused":
        return LinkRefused(message, told["code"])
    if told["kind"] == "LinkLost":
        return LinkLost(message, phase)
    return LinkError(f"{message} ({told['kind']})", phase)
