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

import ctypes
import hashlib
import hmac
import json
import mmap
import os
import secrets
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from .rows import Row, rows_of

if TYPE_CHECKING:
    import torch

PROTOCOL = "sglang-rl.trainer"
VERSIONS = [1]

_HEAD = struct.Struct("<IIQ")
_SLOT = struct.Struct("<II")
_MESSAGE, _BYTES, _FILLED, _FREE, _BATCH = 1, 2, 3, 4, 5
_CHUNK = 1 << 20
_LONGEST_FRAME = 32 << 20
_LARGEST_BATCH = 4 << 30
_KNOWN_WAYS = ("cuda-ipc", "shm", "socket")


class LinkError(RuntimeError):
    """The link to rank 0 failed; `phase` says what was under way."""

    def __init__(self, message: str, phase: str):
        super().__init__(message)
        self.phase = phase


class LinkLost(LinkError):
    """Rank 0 is gone or does not answer. The next call connects again."""


class LinkRefused(LinkError):
    """Rank 0 does not want this trainer: another key or another version. `code` says which."""

    def __init__(self, message: str, code: str):
        super().__init__(message, "greeting")
        self.code = code


class PushFailed(LinkError):
    """The servers did not get the weights. Rank 0 lives and the next push may work.

    `code` is the kind of failure, `step` the step of the sync, `server` who failed; the last two are
    None where there is none.
    """

    def __init__(self, message: str, code: str, phase: str, step: str | None, server: str | None):
        super().__init__(message, phase)
        self.code = code
        self.step = step
        self.server = server


@dataclass(frozen=True)
class PushReport:
    """What became of a push: the version that all servers now have, and how long it took."""

    version: str
    seconds: float
    """From the call to its return."""
    sync_ms: float | None
    """What the sync took on the other side."""
    paused_ms: float | None
    """Of these, with paused servers."""
    size_bytes: int | None


class WeightLink:
    """A connection to rank 0: weights go there, rows come back.

    `address` is what `TrainerLink.listen` was given: "unix:/path" or "tcp:host:port". It is connected
    at the first use, and again after it was lost. Not for several threads at once. `key` is the
    secret that both sides have; `ways` are the allowed ways of the weights, the best first;
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
        ways: Iterable[str] = _KNOWN_WAYS,
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
        """How weights travel: "cuda-ipc", "shm" or "socket"; None while there is no connection."""
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


class _Goodbye(Exception):
    """Rank 0 closed the link in order."""


class _Tensors:
    """What is pushed: names and shapes first, bytes when they are asked for."""

    def __init__(self, tensors: list[tuple[str, Any]], keep_mapped: bool = False):
        self._tensors = tensors
        self._keep_mapped = keep_mapped
        self.shards_of_all: Callable[[], list[dict[str, Any]]] = lambda: []
        """What every rank says of its shards on GPUs; called where several ranks push."""
        self.before_gathering: Callable[[int], None] = lambda index: None
        """Called before a sharded tensor is gathered, so that the other ranks do it too."""
        self.described = [_describe(name, tensor) for name, tensor in tensors]

    @property
    def is_sharded(self) -> bool:
        return any(hasattr(tensor, "full_tensor") for _, tensor in self._tensors)

    def gathered(self, index: int) -> Any:
        """The tensor in one piece; for a sharded one all ranks call this."""
        tensor = self._tensors[index][1]
        if hasattr(tensor, "full_tensor"):
            self.before_gathering(index)
            tensor = tensor.full_tensor()
        return tensor.detach()

    def device_memory(self) -> dict[str, Any]:
        """Where the tensors lie on GPUs, for another process of this host; written to no more."""
        import torch

        memory = _Allocations()
        places: list[Any] = []
        devices = set()
        for position, (name, tensor) in enumerate(self._tensors):
            if hasattr(tensor, "full_tensor") or tensor.device.type != "cuda" or tensor.numel() == 0:
                places.append(None)
                continue
            if not tensor.is_contiguous():
                # Kept until the push is over, as all others are.
                tensor = tensor.detach().contiguous()
                self._tensors[position] = (name, tensor)
            devices.add(tensor.device)
            places.append(memory.place(tensor, name))
        for device in devices:
            torch.cuda.synchronize(device)
        if self.is_sharded:
            self._place_shards(memory, places)
        return {"allocations": memory.told, "tensors": places, "keep": self._keep_mapped}

    def local_shards(self) -> dict[str, Any]:
        """This rank's shards on its GPU, by the place of their tensor; written to no more."""
        import torch

        memory = _Allocations()
        shards: dict[int, list[int]] = {}
        try:
            for position, (name, tensor) in enumerate(self._tensors):
                order = _order_of_rows(tensor)
                if order is None:
                    continue
                local = tensor.to_local().detach()
                if local.numel() == 0 or local.device.type != "cuda" or not local.is_contiguous():
                    continue
                shards[position] = [order, *memory.place(local, name), local.nbytes]
            if shards:
                torch.cuda.synchronize()
        except ValueError as error:
            return {"host": _host(), "error": str(error)}
        return {"host": _host(), "allocations": memory.told, "shards": shards}

    def _place_shards(self, memory: _Allocations, places: list[Any]) -> None:
        """Adds the shards of all ranks of this host, where they make whole tensors."""
        pieces: dict[int, dict[int, list[int]]] = {}
        for told in self.shards_of_all():
            if "error" in told:
                raise ValueError(told["error"])
            if told["host"] != _host():
                continue
            numbers = [memory.add(handle, size) for handle, size in told["allocations"]]
            for position, (order, allocation, offset, size) in told["shards"].items():
                pieces.setdefault(position, {})[order] = [numbers[allocation], offset, size]
        for position, found in pieces.items():
            tensor = self._tensors[position][1]
            ordered = [found[order] for order in sorted(found)]
            if sum(piece[2] for piece in ordered) == tensor.numel() * tensor.element_size():
                places[position] = ordered

    def flat(self, index: int) -> Any:
        """The bytes of a tensor, one after the other, where it lies; sharded ones are gathered."""
        tensor = self.gathered(index)
        if tensor.device.type == "cuda":
            import torch

            # Work on other streams may still write to it.
            torch.cuda.synchronize(tensor.device)
        return _as_bytes(tensor)


class _Allocations:
    """Allocations on GPUs, each named once."""

    def __init__(self) -> None:
        self.told: list[list[Any]] = []
        self._known: dict[Any, int] = {}

    def place(self, tensor: Any, name: str) -> list[int]:
        """The number of the allocation that a tensor lies in, and where it begins there."""
        base, size, handle = _ipc_handle(tensor, name)
        return [self.add(handle.hex(), size), tensor.data_ptr() - base]

    def add(self, handle: str, size: int) -> int:
        number = self._known.setdefault(handle, len(self.told))
        if number == len(self.told):
            self.told.append([handle, size])
        return number


class _Ranks:
    """The ranks of a trainer whose tensors are sharded: all gather what rank 0 sends.

    They wait for each other on the CPU: a rank that waits in a collective of NCCL keeps its GPU busy,
    and others on that GPU, such as a server, slow.
    """

    _groups: ClassVar[dict[int, Any]] = {}

    def __init__(self, rank: int):
        import torch
        import torch.distributed as dist

        self.rank = rank
        self._dist = dist
        self._group = self._on_cpu(dist)
        self._index = torch.zeros(1, dtype=torch.int64)

    @classmethod
    def _on_cpu(cls, dist: Any) -> Any:
        """A group of all ranks that talks by gloo, made once."""
        if str(dist.get_backend()) == "gloo":
            return None
        world = id(dist.group.WORLD)
        if world not in cls._groups:
            # A push may wait long until it is taken up; a rank that dies ends the waiting at once.
            cls._groups[world] = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        return cls._groups[world]

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


class _Wire:
    """One connection, greeted: frames in and out."""

    def __init__(self, connection: socket.socket, address: str, timeout: float):
        connection.settimeout(timeout)
        self._socket = connection
        self._address = address
        self._timeout = timeout
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._heard = time.monotonic()
        self._ring: _Ring | None = None
        self._pushes = 0
        self.phase = "greeting"
        self.way = "socket"
        self.why = ""
        self.link_id = ""

    @classmethod
    def connect(
        cls,
        target: tuple[str, Any],
        *,
        address: str,
        key: str,
        name: str,
        ways: list[str],
        connect_timeout: float,
        timeout: float,
    ) -> _Wire:
        deadline = time.monotonic() + connect_timeout
        wait = 0.05
        while True:
            try:
                connection = _dial(target, max(0.1, deadline - time.monotonic()))
                wire = cls(connection, address, timeout)
                try:
                    wire._greet(key, name, ways)
                    return wire
                except BaseException:
                    wire.close()
                    raise
            except LinkRefused:
                raise
            except (OSError, LinkLost, _Goodbye) as error:
                if time.monotonic() + wait > deadline:
                    raise LinkLost(f"nobody answers at {address}: {error}", "connect") from error
                time.sleep(wait)
                wait = min(1.0, wait * 2)

    def close(self, goodbye: bool = False) -> None:
        if goodbye:
            try:
                self._send_message({"type": "bye"})
            except (OSError, LinkError, _Goodbye):
                pass
        self._socket.close()
        if self._ring is not None:
            self._ring.close()

    def is_over(self) -> bool:
        """Whether the other side has closed it meanwhile."""
        try:
            while self._poll.poll(0):
                if not self._receive():
                    return True
        except (OSError, LinkLost):
            return True
        return False

    def push(self, tensors: _Tensors, version: str | None, about: dict[str, Any]) -> dict[str, Any]:
        self._pushes += 1
        number = self._pushes
        self.phase = "waiting to be taken up"
        self._heard = time.monotonic()
        offer = {"type": "push", "push": number, "version": version, "tensors": tensors.described}
        # An adapter is small, and rank 0 keeps it for servers that join later: it travels by value.
        if self.way == "cuda-ipc" and about["kind"] == "weights":
            offer["memory"] = tensors.device_memory()
        self._send_message({**offer, **about})
        wanted: deque[int] = deque()
        while True:
            message = self._next_message(wait=not wanted)
            if message is None and not wanted:
                continue
            if message is None:
                try:
                    ended = self._send_tensor(number, tensors.flat(wanted.popleft()), wanted)
                except LinkError:
                    raise
                except Exception as error:
                    self._send_message({"type": "withdraw", "push": number, "message": repr(error)})
                    raise
            else:
                ended = self._hear(message, number, wanted)
            if ended is not None:
                return ended

    def send_release(self) -> None:
        self.phase = "release"
        self._send_message({"type": "release"})

    def take(self) -> tuple[int, bytes]:
        self.phase = "waiting for a batch"
        self._send_message({"type": "take"})
        # A batch may take as long as it takes; that rank 0 ends is seen all the same.
        message = self._await("batch", deadline=None)
        number, size = message["batch"], message["bytes"]
        if not isinstance(size, int) or not 0 <= size <= _LARGEST_BATCH:
            raise LinkLost(f"rank 0 announced a batch of {size} bytes", self.phase)
        self.phase = "receiving a batch"
        data = bytearray()
        while len(data) < size:
            kind, _, payload = self._next_frame(self._timeout)
            if kind == _BATCH:
                data += payload
            elif kind == _MESSAGE:
                self._common(_parsed(payload))
        self._send_message({"type": "taken", "batch": number})
        return number, bytes(data)

    def _greet(self, key: str, name: str, ways: list[str]) -> None:
        nonce = secrets.token_hex(32)
        hello = {"type": "hello", "protocol": PROTOCOL, "versions": VERSIONS, "nonce": nonce}
        self._send_message({**hello, "name": name, "ways": ways})
        answer = self._await("hello")
        if answer.get("protocol") != PROTOCOL or answer.get("version") not in VERSIONS:
            raise LinkRefused(f"{self._address} speaks another protocol", "version")
        nonces = f"{nonce}:{answer['nonce']}"
        self._send_message({"type": "proof", "proof": _proof(key, f"client:{nonces}")})
        welcome = self._await("welcome")
        if not hmac.compare_digest(str(welcome.get("proof")), _proof(key, f"server:{nonces}")):
            raise LinkRefused(f"{self._address} does not know the key", "key")
        offered = welcome["ways"]
        self.link_id = str(welcome.get("link", ""))
        reasons = [f"{way}: {why}" for way, why in welcome.get("without", {}).items()]
        for way in ways:
            if way not in offered:
                continue
            if way == "shm":
                try:
                    self._ring = _Ring(welcome["ring"])
                except (OSError, ValueError, KeyError) as error:
                    reasons.append(f"shm: {error}")
                    continue
            self.way = way
            break
        else:
            said = "; ".join(reasons)
            self._send_message({"type": "bye"})
            raise LinkRefused(f"no way of the weights suits both sides ({said})", "way")
        self.why = "; ".join(reasons)
        self._send_message({"type": "way", "way": self.way, "why": self.why})

    def _send_tensor(self, number: int, flat: Any, wanted: deque[int]) -> dict[str, Any] | None:
        """Sends a tensor as far as anybody wants it; gives what ended the push, if that came."""
        if self._ring is None:
            return self._send_bytes(number, memoryview(flat.cpu().numpy()), wanted)
        begin, size = 0, flat.numel()
        while begin < size:
            while (message := self._next_message(wait=not self._ring.free)) is not None:
                ended = self._hear(message, number, wanted)
                if ended is not None:
                    return ended
            if not self._ring.free:
                continue
            slot = self._ring.free.popleft()
            end = min(size, begin + self._ring.slot_bytes)
            self._ring.fill(slot, flat, begin, end)
            self._send(_HEAD.pack(_FILLED, number, _SLOT.size) + _SLOT.pack(slot, end - begin))
            begin = end
        return None

    def _send_bytes(
        self, number: int, data: memoryview, wanted: deque[int]
    ) -> dict[str, Any] | None:
        for begin in range(0, len(data), _CHUNK):
            while (message := self._next_message(wait=False)) is not None:
                ended = self._hear(message, number, wanted)
                if ended is not None:
                    return ended
            chunk = data[begin : begin + _CHUNK]
            self._send(_HEAD.pack(_BYTES, number, len(chunk)))
            self._send(chunk)
        return None

    def _hear(
        self, message: dict[str, Any], number: int, wanted: deque[int]
    ) -> dict[str, Any] | None:
        kind = message["type"]
        if kind == "want" and message["push"] == number:
            wanted.append(message["tensor"])
        elif kind == "progress" and message["push"] == number:
            self.phase = message["phase"]
        elif kind == "done" and message["push"] == number:
            return message
        elif kind == "failed" and message["push"] == number:
            raise PushFailed(
                message["message"],
                code=message["code"],
                phase=message["phase"] or self.phase,
                step=message["step"],
                server=message["server"],
            )
        return None

    def _await(self, kind: str, deadline: float | None = -1) -> dict[str, Any]:
        while True:
            frame, _, payload = self._next_frame(self._timeout if deadline == -1 else deadline)
            if frame != _MESSAGE:
                continue
            message = self._common(_parsed(payload))
            if message is not None and message["type"] == kind:
                return message

    def _next_message(self, wait: bool) -> dict[str, Any] | None:
        """The next message; None when none is there and none is waited for, or a slot came free."""
        while True:
            frame = self._next_frame(self._timeout if wait else 0)
            if frame is None:
                return None
            kind, _, payload = frame
            if kind == _FREE and self._ring is not None:
                self._ring.free.append(_SLOT.unpack(payload)[0])
                if wait:
                    return None
                continue
            if kind != _MESSAGE:
                continue
            message = self._common(_parsed(payload))
            if message is not None:
                return message

    def _common(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Messages that may come at any time are met here."""
        kind = message["type"]
        if kind == "bye":
            raise _Goodbye(f"rank 0 at {self._address} ended the link")
        if kind == "refused":
            raise LinkRefused(f"{self._address} refused: {message['message']}", message["code"])
        return None if kind == "ping" else message

    def _next_frame(self, timeout: float | None) -> Any:
        """The next frame; None when `timeout` is 0 and none is there. No timeout waits for ever."""
        while True:
            frame = self._take_frame()
            if frame is not None:
                return frame
            patience = None if timeout is None else int(timeout * 1000)
            if not self._poll.poll(patience):
                if timeout == 0:
                    return None
                raise LinkLost(
                    f"rank 0 at {self._address} was silent for {timeout:g} s "
                    f'(phase "{self.phase}")',
                    self.phase,
                )
            if not self._receive():
                raise LinkLost(
                    f'rank 0 at {self._address} closed the connection (phase "{self.phase}")',
                    self.phase,
                )

    def _take_frame(self) -> tuple[int, int, bytes] | None:
        if len(self._received) < _HEAD.size:
            return None
        kind, push, length = _HEAD.unpack_from(self._received)
        if length > _LONGEST_FRAME:
            raise LinkLost(f"rank 0 announced a frame of {length} bytes", self.phase)
        end = _HEAD.size + length
        if len(self._received) < end:
            return None
        payload = bytes(self._received[_HEAD.size : end])
        del self._received[:end]
        return kind, push, payload

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(1 << 20)
        except (ConnectionError, TimeoutError) as error:
            raise LinkLost(f'{self._address}: {error} (phase "{self.phase}")', self.phase) from error
        self._received += data
        return len(data) > 0

    def _send_message(self, message: dict[str, Any]) -> None:
        payload = json.dumps(message).encode()
        self._send(_HEAD.pack(_MESSAGE, 0, len(payload)) + payload)

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise LinkLost(
                f'rank 0 at {self._address} took nothing for {self._timeout:g} s (phase "{self.phase}")',
                self.phase,
            ) from error
        except OSError as error:
            raise LinkLost(f'{self._address}: {error} (phase "{self.phase}")', self.phase) from error


_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}


def huggingface_name(name: str) -> str | None:
    """The name that a checkpoint of Hugging Face has for a parameter of a wrapped module.

    Takes away what DDP, FSDP, torch.compile and activation checkpointing put into names, and what PEFT
    does; None for what no checkpoint has, such as the weights of an adapter.
    """
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    if any(part.startswith("lora_") or part == "modules_to_save" for part in parts):
        return None
    while parts[0] == "module" and len(parts) > 1:
        parts = parts[1:]
    if parts[:2] == ["base_model", "model"]:
        parts = [part for part in parts[2:] if part not in ("base_layer", "original_module")]
    return ".".join(parts)


def _named_tensors(weights: Any, rename: Callable[[str], str | None]) -> list[tuple[str, Any]]:
    if hasattr(weights, "state_dict"):
        weights = weights.state_dict()
    pairs = weights.items() if isinstance(weights, Mapping) else weights
    named: dict[str, Any] = {}
    for given, tensor in pairs:
        name = rename(given)
        if name is None:
            continue
        if not hasattr(tensor, "data_ptr") and not hasattr(tensor, "full_tensor"):
            raise ValueError(f'"{given}" is no tensor but {type(tensor).__name__}')
        if name in named:
            raise ValueError(f'two weights have the name "{name}"; give the link a rename')
        named[name] = tensor
    if not named:
        raise ValueError("there are no weights to push")
    return list(named.items())


def _adapter_of(model: Any) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    from peft import get_peft_model_state_dict

    active = model.active_adapter if isinstance(model.active_adapter, str) else "default"
    config = model.peft_config[active].to_dict()
    plain = json.loads(json.dumps(config, default=lambda value: sorted(value) if isinstance(value, set) else str(value)))
    return list(get_peft_model_state_dict(model, adapter_name=active).items()), plain


def _as_bytes(tensor: Any) -> Any:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _ipc_handle(tensor: Any, name: str) -> tuple[int, int, bytes]:
    """Address and size of the allocation that a tensor lies in, and its CUDA IPC handle."""
    import torch

    driver = ctypes.CDLL("libcuda.so.1")
    base, size, handle = ctypes.c_uint64(), ctypes.c_size_t(), (ctypes.c_char * 64)()
    with torch.cuda.device(tensor.device):
        found = driver.cuMemGetAddressRange_v2(
            ctypes.byref(base), ctypes.byref(size), ctypes.c_uint64(tensor.data_ptr())
        )
        result = found or driver.cuIpcGetMemHandle(handle, base)
    if result != 0:
        raise ValueError(
            f'CUDA gives no handle for the memory of "{name}" (result {result}): memory of expandable '
            "segments has none. Start the trainer with "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False, or give the link "
            'ways=("shm", "socket")'
        )
    return base.value, size.value, bytes(handle)


def _order_of_rows(tensor: Any) -> int | None:
    """Where this rank's rows come in a sharded tensor; None where it has none, or other than rows."""
    if not hasattr(tensor, "full_tensor"):
        return None
    sharded = [place for place, one in enumerate(tensor.placements) if one.is_shard()]
    plain = all(one.is_replicate() or type(one).__name__ == "Shard" for one in tensor.placements)
    coordinates = tensor.device_mesh.get_coordinate()
    if not plain or coordinates is None or len(sharded) > 1:
        return None
    if sharded and tensor.placements[sharded[0]].dim != 0:
        return None
    if any(at > 0 for place, at in enumerate(coordinates) if place not in sharded):
        return None  # A copy of what another rank has.
    return coordinates[sharded[0]] if sharded else 0


def _host() -> str:
    """This machine since it was started."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return socket.gethostname()


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


def _describe(name: str, tensor: Any) -> list[Any]:
    return [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]


def _proof(key: str, said: str) -> str:
    return hmac.new(key.encode(), said.encode(), hashlib.sha256).hexdigest()


def _parsed(payload: bytes) -> dict[str, Any]:
    message = json.loads(payload)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise LinkLost("rank 0 sent a message without a type", "reading")
    return message


def _parse_address(address: str) -> tuple[str, Any]:
    if address.startswith("unix:/"):
        return "unix", address[len("unix:") :]
    if address.startswith("tcp:"):
        host, _, port = address[len("tcp:") :].removeprefix("//").rpartition(":")
        if host and port.isdecimal() and int(port) < 65536:
            return "tcp", (host.strip("[]"), int(port))
    raise ValueError(f'the address of a link is "unix:/path" or "tcp:host:port", not "{address}"')


def _dial(target: tuple[str, Any], timeout: float) -> socket.socket:
    kind, place = target
    if kind == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(place)
        except BaseException:
            connection.close()
            raise
    else:
        connection = socket.create_connection(place, timeout=timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection
