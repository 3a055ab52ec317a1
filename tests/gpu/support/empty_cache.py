"""Whether torch.cuda.empty_cache() returns only once the device has done all its work, on any stream.

Prints a line of JSON.
"""

import json
import time

import torch

done = []
waited = []
for stream in [None, torch.cuda.Stream()] * 3:
    buffer = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    del buffer
    event = torch.cuda.Event()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(400_000_000)
        event.record()
    assert not event.query()
    start = time.perf_counter()
    torch.cuda.empty_cache()
    waited.append(round((time.perf_counter() - start) * 1000, 1))
    done.append(event.query())
    torch.cuda.synchronize()
print(json.dumps({"done": done, "waitedMs": waited}))
