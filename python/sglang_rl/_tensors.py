"""What is pushed: whole tensors, shards of tensors, and the device memory that they lie in."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable
from typing import Any


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
        self._made: dict[Any, list[Any]] = {}

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

    def parts(self, indexes: list[int], flattened: bool, on_gpu: bool) -> list[Any]:
        """What is broadcast of these tensors: one piece of bytes, or each by itself.

        The last two are kept: servers take the same ones, the fastest one ahead of the slowest.
        """
        key = (tuple(indexes), flattened, on_gpu)
        if key in self._made:
            return self._made[key]
        tensors = [self.gathered(index) for index in indexes]
        tensors = [_on_gpu(tensor) if on_gpu else tensor.cpu() for tensor in tensors]
        if flattened:
            import torch

            pieces = [_as_bytes(tensor) for tensor in tensors]
            parts = [pieces[0] if len(pieces) == 1 else torch.cat(pieces)]
        else:
            parts = [tensor.contiguous() for tensor in tensors]
        if on_gpu:
            import torch

            torch.cuda.synchronize(parts[0].device)
        while len(self._made) >= 2:
            del self._made[next(iter(self._made))]
        self._made[key] = parts
        return parts

    def forget_parts(self) -> None:
        self._made.clear()

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


def _on_gpu(tensor: Any) -> Any:
    if tensor.device.type == "cuda":
        return tensor
    return tensor.cuda()


def _as_bytes(tensor: Any) -> Any:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)


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


def _describe(name: str, tensor: Any) -> list[Any]:
    return [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]


def _host() -> str:
    """This machine since it was started."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return socket.gethostname()
