"""The same updates as server_test.ts from a Python rank 0, for comparison: python_rank0.py URL FOLDER [no-ipc]

"no-ipc" leaves out CUDA IPC: a server that does not see this process's GPU dies of it.
Prints one JSON line for each way: {"name": ..., "value": {...}}. Each update is checked with
/weights_checker.
"""
import concurrent.futures
import json
import statistics
import sys
import time

import requests
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch_group import free_port, join_group

url, folder = sys.argv[1:3]
with_ipc = sys.argv[3:] != ["no-ipc"]
name = "python_rank0"
pool = concurrent.futures.ThreadPoolExecutor(2)


def post(path, body):
    answer = requests.post(url + path, json=body, timeout=60)
    if answer.status_code != 200:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:300]}")
    return answer.json()


def checksum():
    return post("/weights_checker", {"action": "checksum"})["per_engine_checksum"]


def open_group():
    port = free_port()
    body = {
        "master_address": "127.0.0.1",
        "master_port": port,
        "rank_offset": 1,
        "world_size": 2,
        "group_name": name,
        "backend": "nccl",
    }
    joined = pool.submit(post, "/init_weights_update_group", body)
    group = join_group(port, name, 2, 0)
    joined.result()
    return group


def update(group, tensors, flattened, flush=True):
    body = {
        "names": [key for key, _ in tensors],
        "dtypes": [str(tensor.dtype).split(".")[1] for _, tensor in tensors],
        "shapes": [list(tensor.shape) for _, tensor in tensors],
        "group_name": name,
        "flush_cache": flush,
    }
    if flattened:
        body["load_format"] = "flattened_bucket"
    posted = pool.submit(post, "/update_weights_from_distributed", body)
    if flattened:
        flat = torch.cat([tensor.flatten().view(torch.uint8) for _, tensor in tensors])
        dist.broadcast(flat, 0, group=group)
    else:
        for _, tensor in tensors:
            dist.broadcast(tensor, 0, group=group)
    torch.cuda.synchronize()
    posted.result()


def series(label, times, sums, run):
    taken = []
    for i in range(times):
        version = "ba"[i % 2]
        start = time.perf_counter()
        run(version)
        taken.append(round(1000 * (time.perf_counter() - start)))
        assert checksum() == sums[version], label
    later = taken[1:] or taken
    value = {"times": times, "firstMs": taken[0], "medianMs": round(statistics.median(later))}
    print(json.dumps({"name": f"server.python.{label}", "value": value}), flush=True)


def main():
    torch.cuda.set_device(0)
    weights = {
        version: list(load_file(f"{folder}/q05b-{version}/model.safetensors", device="cuda").items())
        for version in "ab"
    }
    sums = {}
    for version in "ba":
        post("/update_weights_from_disk", {"model_path": f"{folder}/q05b-{version}"})
        sums[version] = checksum()
    disk = lambda v: post("/update_weights_from_disk", {"model_path": f"{folder}/q05b-{v}"})
    series("disk", 4, sums, disk)
    group = open_group()
    series("flattened", 6, sums, lambda v: update(group, weights[v], True))
    series("oneRequest", 4, sums, lambda v: update(group, weights[v], False))

    def each(version):
        last = len(weights[version]) - 1
        for i, pair in enumerate(weights[version]):
            update(group, [pair], False, i == last)

    series("requestPerTensor", 3, sums, each)
    post("/destroy_weights_update_group", {"group_name": name})
    if with_ipc:
        series_by_ipc(weights, sums)


def series_by_ipc(weights, sums):
    from sglang.srt.utils import MultiprocessingSerializer
    from sglang.srt.utils.patch_torch import monkey_patch_torch_reductions
    from sglang.srt.weight_sync.tensor_bucket import FlattenedTensorBucket

    monkey_patch_torch_reductions()

    def from_tensor(version):
        bucket = FlattenedTensorBucket(named_tensors=weights[version])
        value = {
            "flattened_tensor": bucket.get_flattened_tensor(),
            "metadata": bucket.get_metadata(),
        }
        torch.cuda.synchronize()
        text = MultiprocessingSerializer.serialize(value, output_str=True)
        body = {
            "serialized_named_tensors": [text],
            "load_format": "flattened_bucket",
            "flush_cache": True,
        }
        post("/update_weights_from_tensor", body)

    series("ipcFlattened", 8, sums, from_tensor)


main()
import os

os._exit(0)  # torch's own teardown of the group would wait for the server
