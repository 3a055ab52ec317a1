"""Requests per second of a Python aiohttp client. Arguments: url, concurrency, requests."""
import asyncio
import json
import sys
import time

import aiohttp


async def main(url: str, concurrency: int, requests: int) -> None:
    body = {
        "text": "x" * 400,
        "rid": "r",
        "return_logprob": True,
        "sampling_params": {"max_new_tokens": 16, "temperature": 1.0},
    }
    left = requests
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                async with session.post(url + "/generate", json=body) as response:
                    answer = await response.json()
                    assert len(answer["output_ids"]) == 16

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        print(json.dumps({"seconds": time.perf_counter() - started}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
