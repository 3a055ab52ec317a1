"""Reads a payload of /update_weights_from_tensor from stdin as SGLang does, with its own unpickler,
and prints what came out. A machine without a GPU cannot map device memory: torch's rebuild of a CUDA
tensor is replaced by one that notes its arguments and takes the bytes from the second line of stdin.
"""
import base64
import io
import json
import pickletools
import sys

import torch
import torch.multiprocessing.reductions as reductions

payload, memory = (base64.b64decode(line) for line in sys.stdin.read().split("\n")[:2])
calls = []


def rebuild(*args):
    cls, size, stride, offset, storage, dtype, device, handle, size_bytes, offset_bytes, *rest = args
    requires_grad, counter, counter_offset, event, event_sync = rest
    assert cls is torch.Tensor and isinstance(size, torch.Size) and isinstance(stride, tuple)
    assert storage is torch.storage.TypedStorage and isinstance(handle, bytes)
    assert isinstance(counter, bytes) and counter_offset == 0 and event == b""
    assert requires_grad is False and event_sync is False and offset == 0
    calls.append({"device": device, "handle": handle.hex(), "bytes": size_bytes})
    taken = bytearray(memory[offset_bytes : offset_bytes + size_bytes])
    assert len(taken) == size_bytes
    flat = torch.frombuffer(taken, dtype=torch.uint8).view(dtype)
    return torch.as_strided(flat, size, stride)


reductions.rebuild_cuda_tensor = rebuild

from sglang.srt.utils.common import MultiprocessingSerializer  # noqa: E402
from sglang.srt.weight_sync.tensor_bucket import (  # noqa: E402
    FlattenedTensorBucket,
    FlattenedTensorMetadata,
)

value = MultiprocessingSerializer.deserialize(base64.b64encode(payload).decode())
pickletools.dis(payload, out=io.StringIO())  # refuses a pickle that breaks the format
if isinstance(value, dict):
    assert all(type(item) is FlattenedTensorMetadata for item in value["metadata"])
    value = FlattenedTensorBucket(**value).reconstruct_tensors()
tensors = [
    {
        "name": name,
        "dtype": str(tensor.dtype),
        "shape": list(tensor.shape),
        "bytes": tensor.flatten().view(torch.uint8).numpy().tobytes().hex(),
    }
    for name, tensor in value
]
print(json.dumps({"calls": calls, "tensors": tensors}))
