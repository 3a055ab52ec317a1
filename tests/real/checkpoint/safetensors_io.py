"""Python's side of safetensors_test.ts."""
import hashlib
import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def describe(path):
    with safe_open(path, framework="pt") as file:
        tensors = {}
        for name in file.keys():
            tensor = file.get_tensor(name)
            data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
            tensors[name] = {
                "dtype": str(tensor.dtype),
                "shape": list(tensor.shape),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        return {"metadata": file.metadata(), "tensors": tensors}


def write(path):
    generator = torch.Generator().manual_seed(1)
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
    tensors = {f"float.{i}": torch.randn(7, 3, generator=generator).to(dtype) for i, dtype in enumerate(dtypes)}
    for i, dtype in enumerate([torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]):
        tensors[f"int.{i}"] = torch.randint(0, 2, (2, 5), generator=generator).to(dtype)
    tensors["empty"] = torch.empty(0, 3)
    tensors["scalar"] = torch.tensor(2.5)
    save_file(tensors, path, metadata={"format": "pt"})
    return describe(path)


def convert(f32, bf16, f16):
    source = torch.frombuffer(bytearray(open(f32, "rb").read()), dtype=torch.float32)
    for path, dtype in ((bf16, torch.bfloat16), (f16, torch.float16)):
        with open(path, "wb") as file:
            file.write(source.to(dtype).view(torch.uint8).numpy().tobytes())


print(json.dumps({"describe": describe, "write": write, "convert": convert}[sys.argv[1]](*sys.argv[2:])))
