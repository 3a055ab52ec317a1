"""Prints, as one JSON line, the GPUs, the versions, and the rate of a plain copy from GPU 0 to GPU 1.

The copy is the driver's own (cudaMemcpyPeer): what the link between the two gives without NCCL.
"""
import json
import os
import platform
import statistics
import subprocess
import time

import torch


def output(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def peer_copy_rate(size_bytes=2**32, repeats=6):
    if torch.cuda.device_count() < 2:
        return None
    source = torch.zeros(size_bytes, dtype=torch.uint8, device="cuda:0")
    target = torch.empty(size_bytes, dtype=torch.uint8, device="cuda:1")
    seconds = []
    for _ in range(repeats):
        torch.cuda.synchronize(0)
        torch.cuda.synchronize(1)
        start = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize(0)
        torch.cuda.synchronize(1)
        seconds.append(time.perf_counter() - start)
    return round(size_bytes / statistics.median(seconds[1:]) / 1e9, 1)


names = output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
links = output("nvidia-smi", "topo", "-m").splitlines()
value = {
    "gpus": names.splitlines(),
    "links": [" ".join(line.split()) for line in links if line.startswith(("GPU", "\x1b", "\tGPU"))],
    "cores": os.cpu_count(),
    "kernel": platform.release(),
    "python": platform.python_version(),
    "torch": torch.__version__,
    "nccl": ".".join(map(str, torch.cuda.nccl.version())),
    "canAccessPeer": torch.cuda.device_count() > 1 and torch.cuda.can_device_access_peer(0, 1),
    "peerCopyGBs": peer_copy_rate(),
    "environment": {
        name: os.environ.get(name)
        for name in (
            "NCCL_NVLS_ENABLE",
            "NCCL_CUMEM_ENABLE",
            "NCCL_HOSTID",
            "TORCH_SYMM_MEM_DISABLE_MULTICAST",
            "NVSHMEM_DISABLE_NVLS",
        )
    },
}
print(json.dumps({"name": "multi.machine", "value": value}))
