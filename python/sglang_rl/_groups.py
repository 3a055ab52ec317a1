"""Process groups of which this trainer is rank 0: it broadcasts itself, rank 0 only coordinates."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

_HIGHEST_PORT = 55_535
"""SGLang derives a port from a port by adding 10000."""


class _Groups:
    """The groups of one connection, each with a thread of its own: one server holds up no other.

    `answer(ask, **what)` tells rank 0 what became of something that it asked for.
    """

    def __init__(self, answer: Callable[..., None]):
        self._answer = answer
        self._groups: dict[str, _Group] = {}

    def open(self, message: dict[str, Any]) -> None:
        name, ask = str(message["group"]), message["ask"]
        try:
            if message["backend"] not in ("gloo", "nccl"):
                raise ValueError(f"unknown backend {message['backend']}")
            group = _Group(name, message["backend"], int(message["world"]), int(message["timeoutMs"]))
        except Exception as error:
            self._answer(ask, error=_said(error))
            return
        self._groups[name] = group
        self._answer(ask, port=group.port)

    def join(self, message: dict[str, Any]) -> None:
        self._do(message, lambda group: group.join())

    def broadcast(self, message: dict[str, Any], parts: list[Any]) -> None:
        self._do(message, lambda group: group.broadcast(parts))

    def leave(self, message: dict[str, Any]) -> None:
        group = self._groups.pop(str(message["group"]), None)
        if group is not None:
            group.close()
        self._answer(message["ask"])

    def close(self) -> None:
        for group in self._groups.values():
            group.close()
        self._groups.clear()

    def is_on_gpu(self, name: str) -> bool:
        group = self._groups.get(name)
        return group is not None and group.backend == "nccl"

    def _do(self, message: dict[str, Any], work: Callable[[_Group], None]) -> None:
        group, ask = self._groups.get(str(message["group"])), message["ask"]
        if group is None:
            self._answer(ask, error="the trainer does not know this group")
            return

        def run() -> None:
            try:
                work(group)
            except Exception as error:
                self._answer(ask, error=_said(error))
            else:
                self._answer(ask)

        group.queue.put(run)


class _Group:
    """Rank 0 of one group; its store listens from the beginning on."""

    def __init__(self, name: str, backend: str, world: int, timeout_ms: int):
        from torch.distributed import PrefixStore

        self.backend = backend
        self.queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._world = world
        self._timeout = timedelta(milliseconds=timeout_ms)
        store = _listen(world, self._timeout)
        self.port = store.port
        # As `init_custom_process_group` of SGLang and torch put them behind each other.
        device = "cuda/" if backend == "nccl" else "cpu/"
        self._store: Any = PrefixStore(device, PrefixStore(f"{name}/", PrefixStore(name, store)))
        self._group: Any = None
        threading.Thread(target=self._run, name=f"sglang-rl {name}", daemon=True).start()

    def join(self) -> None:
        import torch.distributed as dist

        if self.backend == "nccl":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = self._timeout
            self._group = dist.ProcessGroupNCCL(self._store, 0, self._world, options)
        else:
            self._group = dist.ProcessGroupGloo(self._store, 0, self._world, self._timeout)

    def broadcast(self, parts: list[Any]) -> None:
        from torch.distributed import BroadcastOptions

        if self._group is None:
            raise RuntimeError("the group was not joined")
        options = BroadcastOptions()
        options.rootRank = options.rootTensor = 0
        if self.backend == "gloo":
            for work in [self._group.broadcast([part], options) for part in parts]:
                work.wait()
            return
        import torch

        with torch.cuda.device(parts[0].device):
            works = [self._group.broadcast([part], options) for part in parts]
            deadline = time.monotonic() + self._timeout.total_seconds()
            for work in works:
                # `wait` would only order streams: the bytes shall be out.
                while not work.is_completed():
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"the broadcast took longer than {self._timeout}")
                    time.sleep(0.0002)
                work.wait()
            torch.cuda.current_stream().synchronize()

    def close(self) -> None:
        """Lets go, also of a broadcast under way."""
        self.queue.put(None)
        group, self._group, self._store = self._group, None, None
        if group is None:
            return

        def abort() -> None:
            try:
                group.abort()
            except Exception:
                pass  # It is gone with its last reference.

        # It may wait for what hangs.
        threading.Thread(target=abort, daemon=True).start()

    def _run(self) -> None:
        while (work := self.queue.get()) is not None:
            work()


def _listen(world: int, timeout: timedelta) -> Any:
    """A store that listens at a free port."""
    from torch.distributed import TCPStore

    refused = []
    for _ in range(100):
        store = TCPStore("127.0.0.1", 0, world, True, timeout, wait_for_workers=False)
        if store.port <= _HIGHEST_PORT:
            return store
        refused.append(store)
    raise OSError(f"no free port up to {_HIGHEST_PORT}")


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:2000]
