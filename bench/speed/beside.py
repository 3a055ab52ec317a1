"""What others do with the same answers: aiohttp, orjson and numpy; torch for the cast.

Reads orders from standard input, one JSON a line, and answers each with the time of the processor:
{"url", "concurrency", "requests", "tokens", "stream"} or {"cast": floats}.
"""
import asyncio
import json
import resource
import sys

import aiohttp
import numpy
import orjson


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def ask(order: dict) -> float:
    body = {
        "text": "x" * 400,
        "rid": "r",
        "return_logprob": True,
        "stream": order["stream"],
        "sampling_params": {"max_new_tokens": order["tokens"], "temperature": 1.0},
    }
    left = order["requests"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                async with session.post(order["url"] + "/generate", json=body) as response:
                    if order["stream"]:
                        async for line in response.content:
                            if line.startswith(b"data: {"):
                                orjson.loads(line[6:])
                        continue
                    answer = orjson.loads(await response.read())
                    ids = numpy.array(answer["output_ids"], dtype=numpy.int32)
                    pairs = answer["meta_info"]["output_token_logprobs"]
                    probs = numpy.array([pair[0] for pair in pairs], dtype=numpy.float32)
                    assert len(ids) == len(probs) == order["tokens"]

        started = used()
        await asyncio.gather(*(worker() for _ in range(order["concurrency"])))
        return used() - started


def cast(floats: int) -> float:
    import torch

    torch.set_num_threads(1)
    source = torch.arange(floats, dtype=torch.float32) * 0.37
    target = torch.empty(floats, dtype=torch.bfloat16)
    target.copy_(source)
    started = used()
    target.copy_(source)
    return used() - started


for text in sys.stdin:
    given = json.loads(text)
    seconds = cast(given["cast"]) if "cast" in given else asyncio.run(ask(given))
    print(json.dumps(seconds), flush=True)
