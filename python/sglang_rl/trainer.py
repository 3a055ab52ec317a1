"""Hands a running trainer's weights to rank 0, an sglang-rl program, without a file between.

    from sglang_rl.trainer import WeightLink

    with WeightLink("unix:/tmp/trainer.sock") as link:
        for batch in link.batches():
            train(model, batch)
            link.push(model)  # returns when every server has the weights

Needs torch only for what is pushed. The other side is `TrainerLink` of sglang-rl; what the two say to
each other is in docs/trainer_protocol.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ._address import _parse_address
from ._errors import LinkError, LinkLost, LinkRefused, PushFailed, PushReport, _Goodbye
from ._names import _adapter_of, _named_tensors, huggingface_name
from ._ranks import _Ranks
from ._tensors import _Tensors
from ._wire import _DEFAULT_WAYS, _KNOWN_WAYS, _Wire
from .rows import Row, rows_of

__all__ = [
    "LinkError",
    "LinkLost",
    "LinkRefused",
    "PushFailed",
    "PushReport",
    "WeightLink",
    "huggingface_name",
]


class WeightLink:
    """A connection to rank 0: weights go there, rows come back.

    `address` is what `TrainerLink.listen` was given: "unix:/path" or "tcp:host:port". It is connected
    at the first use, and again after it was lost. Not for several threads at once. `key` is the
    secret that both sides have; `ways` are the allowed ways of the weights, the best first: with
    `["broadcast"]` this process is rank 0 of the servers' groups (gloo or NCCL) and broadcasts itself;
    `connect_timeout` and `timeout` are seconds: how long rank 0 is waited for at first, and how long it
    may be silent within a push. With `keep_mapped` the device memory of a push stays mapped in rank 0
    until the next push, which is faster when the weights stay where they are; call `release()` before
    memory is to go back to the device (`torch.cuda.empty_cache()`).
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        name: str | None = None,
        ways: Iterable[str] = _DEFAULT_WAYS,
        connect_timeout: float = 60.0,
        timeout: float = 30.0,
        rename: Callable[[str], str | None] | None = None,
        keep_mapped: bool = True,
    ):
        self.address = address
        self._target = _parse_address(address)
        self._key = key or ""
        self._name = name or f"pid-{os.getpid()}"
        self._ways = list(ways)
        unknown = [way for way in self._ways if way not in _KNOWN_WAYS]
        if unknown or not self._ways:
            raise ValueError(f"ways must be some of {', '.join(_KNOWN_WAYS)}, not {self._ways}")
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._rename = rename or huggingface_name
        self._keep_mapped = keep_mapped
        self._wire: _Wire | None = None
        self._last_push = 0
        self._last_batch: tuple[str, int] | None = None
        self._is_closed = False

    @property
    def way(self) -> str | None:
        """How weights travel: "cuda-ipc", "shm", "socket" or "broadcast"; None while there is no connection."""
        return self._wire.way if self._wire is not None else None

    @property
    def why(self) -> str:
        """Why they do not travel by a better way; empty where they do."""
        return self._wire.why if self._wire is not None else ""

    def push(self, weights: Any, version: str | int | None = None) -> PushReport:
        """Brings weights to every server and returns when they have them.

        `weights` is a module, a state dict, or pairs of name and tensor. Names become those of
        Hugging Face (`huggingface_name`, or the link's `rename`). For sharded tensors (FSDP2, tensor
        parallelism: DTensor) every rank of the default process group makes the same call; only rank 0
        connects, and all ranks have the same outcome. With CUDA IPC, shards of whole rows on GPUs of
        one host are read where they lie; others are gathered one by one as they are sent. Leave the tensors unchanged meanwhile. `version` is the servers' new weight version;
        by default rank 0 of the servers' group gives the next number.

        Raises PushFailed when the servers did not get them, LinkLost when rank 0 went away meanwhile
        (some servers may have them), and ValueError for weights that cannot be sent.
        """
        tensors = _named_tensors(weights, self._rename)
        return self._push(_Tensors(tensors, self._keep_mapped), version, {"kind": "weights"})

    def push_adapter(self, model: Any, name: str, version: str | int | None = None) -> PushReport:
        """Brings the LoRA adapter of a PEFT model, under PEFT's own names, with its configuration."""
        tensors, config = _adapter_of(model)
        about = {"kind": "adapter", "adapter": {"name": name, "config": config}}
        return self._push(_Tensors(tensors), version, about)

    def release(self) -> None:
        """Lets rank 0 unmap the device memory of the last push."""
        if self._wire is not None and self._wire.way == "cuda-ipc":
            try:
                self._wire.send_release()
            except LinkLost:
                self._drop()

    def batches(self) -> Iterator[list[Row]]:
        """The batches that rank 0 sends, until it ends the link. A lost connection is made again."""
        while not self._is_closed:
            try:
                wire = self._connected("take a batch")
                rows = self._take(wire)
            except _Goodbye:
                return
            except LinkLost:
                self._drop()
                continue
            if rows is not None:
                yield rows

    def attach(self, optimizer: Any, weights: Any, *, every: int = 1) -> Any:
        """Pushes after every `every`-th `optimizer.step()`; returns a handle with `remove()`."""
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        steps = 0

        def hook(*_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps % every == 0:
                self.push(weights)

        return optimizer.register_step_post_hook(hook)

    def close(self) -> None:
        """Says goodbye. Safe to call twice."""
        self._is_closed = True
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close(goodbye=True)

    def __enter__(self) -> WeightLink:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _connected(self, phase: str) -> _Wire:
        if self._is_closed:
            raise LinkError(f"the link to {self.address} is closed", phase)
        if self._wire is None:
            self._wire = _Wire.connect(
                self._target,
                address=self.address,
                key=self._key,
                name=self._name,
                ways=[way for way in self._ways if way != "cuda-ipc" or _has_cuda()],
                connect_timeout=self._connect_timeout,
                timeout=self._timeout,
            )
        return self._wire

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _push(self, tensors: _Tensors, version: str | int | None, about: dict[str, Any]) -> PushReport:
        ranks = _Ranks.of(tensors)
        if ranks is None:
            return self._push_alone(tensors, version, about)
        if ranks.rank > 0:
            return ranks.follow(tensors)
        tensors.before_gathering = ranks.lead
        tensors.shards_of_all = lambda: ranks.shards(tensors)
        try:
            report = self._push_alone(tensors, version, about)
        except BaseException as error:
            ranks.end(error)
            raise
        ranks.end(report)
        return report

    def _push_alone(
        self, tensors: _Tensors, version: str | int | None, about: dict[str, Any]
    ) -> PushReport:
        began = time.monotonic()
        if self._wire is not None and self._wire.is_over():
            self._drop()
        wire = self._connected("push")
        try:
            told = wire.push(tensors, None if version is None else str(version), about)
        except PushFailed:
            raise
        except _Goodbye as error:
            self._drop()
            raise LinkLost(str(error), wire.phase) from None
        except BaseException:
            # Half a push cannot be taken back, whatever ended it; rank 0 sees the connection end.
            self._drop()
            raise
        return PushReport(
            version=told["version"],
            seconds=time.monotonic() - began,
            sync_ms=told.get("durationMs"),
            paused_ms=told.get("pausedMs"),
            size_bytes=told.get("sizeBytes"),
        )

    def _take(self, wire: _Wire) -> list[Row] | None:
        """The next batch; None for one that was had before the connection was lost."""
        number, data = wire.take()
        place = (wire.link_id, number)
        if place == self._last_batch:
            return None
        self._last_batch = place
        return list(rows_of(data, "the batch"))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
