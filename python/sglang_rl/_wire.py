"""One connection to rank 0: frames in and out, and the shared memory beside it."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import select
import socket
import struct
import threading
import time
from collections import deque
from typing import Any

from ._address import _dial
from ._errors import LinkError, LinkLost, LinkRefused, PushFailed, _Goodbye
from ._groups import _Groups
from ._ring import _Ring
from ._tensors import _Tensors

PROTOCOL = "sglang-rl.trainer"
VERSIONS = [1]

_HEAD = struct.Struct("<IIQ")
_SLOT = struct.Struct("<II")
_MESSAGE, _BYTES, _FILLED, _FREE, _BATCH = 1, 2, 3, 4, 5
_CHUNK = 1 << 20
_LONGEST_FRAME = 32 << 20
_LARGEST_BATCH = 4 << 30
_KNOWN_WAYS = ("cuda-ipc", "shm", "socket", "broadcast")
_DEFAULT_WAYS = ("cuda-ipc", "shm", "socket")


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
        # Threads of groups answer while weights are sent.
        self._sending = threading.Lock()
        self._groups = _Groups(self._answer)
        self.phase = "greeting"
        self._tensors: _Tensors | None = None
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
        self._groups.close()
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
        self._tensors = tensors
        try:
            return self._until_ended(number, tensors)
        finally:
            self._tensors = None
            tensors.forget_parts()

    def _until_ended(self, number: int, tensors: _Tensors) -> dict[str, Any]:
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
            self._send(_HEAD.pack(_BYTES, number, len(chunk)), chunk)
        return None

    def _hear(
        self, message: dict[str, Any], number: int, wanted: deque[int]
    ) -> dict[str, Any] | None:
        kind = message["type"]
        if kind == "want" and message["push"] == number:
            wanted.append(message["tensor"])
        elif kind in ("group", "join", "broadcast") and message["push"] == number:
            self._hear_of_group(message, number)
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

    def _hear_of_group(self, message: dict[str, Any], number: int) -> None:
        """What a trainer that is rank 0 of the servers' groups does; threads of theirs answer."""
        if message["type"] == "group":
            self._groups.open(message)
        elif message["type"] == "join":
            self._groups.join(message)
        else:
            on_gpu = self._groups.is_on_gpu(str(message["group"]))
            assert self._tensors is not None
            try:
                parts = self._tensors.parts(message["tensors"], bool(message["flattened"]), on_gpu)
            except Exception as error:
                self._send_message({"type": "withdraw", "push": number, "message": repr(error)})
                raise
            self._groups.broadcast(message, parts)

    def _answer(self, ask: int, **what: Any) -> None:
        try:
            self._send_message({"type": "answer", "ask": ask, **what})
        except LinkError:
            pass  # Whoever reads the connection sees that it is gone.

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
        if kind == "leave":
            self._groups.leave(message)
            return None
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

    def _send(self, *pieces: bytes | memoryview) -> None:
        try:
            with self._sending:
                for data in pieces:
                    self._socket.sendall(data)
        except TimeoutError as error:
            raise LinkLost(
                f'rank 0 at {self._address} took nothing for {self._timeout:g} s (phase "{self.phase}")',
                self.phase,
            ) from error
        except OSError as error:
            raise LinkLost(f'{self._address}: {error} (phase "{self.phase}")', self.phase) from error


def _proof(key: str, said: str) -> str:
    return hmac.new(key.encode(), said.encode(), hashlib.sha256).hexdigest()


def _parsed(payload: bytes) -> dict[str, Any]:
    message = json.loads(payload)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise LinkLost("rank 0 sent a message without a type", "reading")
    return message
