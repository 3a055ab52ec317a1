"""torch by itself as rank 0: the weights in FOLDER to servers by its own broadcasts of flat buckets, in one
group over all of them: torch_alone.py FOLDER URL[*TP]...

Prints one JSON line: milliseconds of the requests alone, and with pause, flush and continue around them.
Every update is checked with /weights_checker, before which all weights were overwritten.
"""

import concurrent.futures
import glob
import json
import os
import statistics
import sys
import time

import requests
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch_group import free_port, join_group

folder, *given = sys.argv[1:]
servers = [(url, int(size or 1)) for url, _, size in (one.partition("*") for one in given)]
name, bucket_bytes, repeats = "torch_alone", 2**30, 5
pool = concurrent.futures.ThreadPoolExecutor(len(servers))


def post(url, path, body):
    answer = requests.post(url + path, json=body, timeout=60)
    if answer.status_code != 200:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:300]}")
    return answer.json() if answer.text.startswith("{") else None


def on_all(path, body):
    return [pool.submit(post, url, path, body) for url, _ in servers]


def every(path, body):
    return [future.result() for future in on_all(path, body)]


def checksums():
    return [answer["per_engine_checksum"] for answer in every("/weights_checker", {"action": "checksum"})]


def open_group():
    port = free_port()
    world = 1 + sum(size for _, size in servers)
    joined, offset = [], 1
    for url, size in servers:
        body = {
            "master_address": "127.0.0.1",
            "master_port": port,
            "rank_offset": offset,
            "world_size": world,
            "group_name": name,
            "backend": "nccl",
        }
        joined.append(pool.submit(post, url, "/init_weights_update_group", body))
        offset += size
    group = join_group(port, name, world, 0)
    for one in joined:
        one.result()
    return group


def buckets_of(tensors):
    bucket, used = [], 0
    for pair in tensors:
        if bucket and used + pair[1].nbytes > bucket_bytes:
            yield bucket
            bucket, used = [], 0
        bucket.append(pair)
        used += pair[1].nbytes
    yield bucket


def update(group, buckets):
    for i, bucket in enumerate(buckets):
        posted = on_all(
            "/update_weights_from_distributed",
            {
                "names": [key for key, _ in bucket],
                "dtypes": [str(tensor.dtype).split(".")[1] for _, tensor in bucket],
                "shapes": [list(tensor.shape) for _, tensor in bucket],
                "group_name": name,
                "flush_cache": i == len(buckets) - 1,
                "load_format": "flattened_bucket",
            },
        )
        flat = torch.cat([tensor.flatten().view(torch.uint8) for _, tensor in bucket])
        dist.broadcast(flat, 0, group=group)
        torch.cuda.synchronize()
        for one in posted:
            one.result()


def paused(group, buckets):
    every("/pause_generation", {"mode": "abort"})
    update(group, buckets)
    every("/continue_generation", {})


def timed(work, group, buckets, expected):
    taken = []
    for _ in range(repeats + 1):
        every("/weights_checker", {"action": "reset_tensors"})
        start = time.perf_counter()
        work(group, buckets)
        taken.append(1000 * (time.perf_counter() - start))
        assert checksums() == expected
    return round(statistics.median(taken[1:]))


torch.cuda.set_device(0)
every("/update_weights_from_disk", {"model_path": folder, "load_format": "auto"})
expected = checksums()
tensors = [
    pair for file in sorted(glob.glob(f"{folder}/*.safetensors")) for pair in load_file(file, device="cuda").items()
]
buckets = list(buckets_of(tensors))
group = open_group()
value = {"requestsMs": timed(update, group, buckets, expected), "pausedMs": timed(paused, group, buckets, expected)}
every("/destroy_weights_update_group", {"group_name": name})
print(json.dumps(value), flush=True)
os._exit(0)  # torch's own teardown of the group would wait for the servers
