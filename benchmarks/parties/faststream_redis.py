"""FastStream over Redis: RPC by request(), ten workers."""

from __future__ import annotations

import asyncio

from common import PAYLOAD, give, main, rate_of_tasks, ready, time_calls_async
from faststream.redis import RedisBroker


def _broker(port: int) -> RedisBroker:
    return RedisBroker(f"redis://127.0.0.1:{port}", logger=None, max_connections=500)


async def serve(port: int, workers: int = 10) -> None:
    broker = _broker(port)

    @broker.subscriber("bench.faststream", max_workers=workers)
    async def echo(data: dict) -> dict:
        return data

    await broker.start()
    ready()
    await asyncio.Event().wait()


async def latency(port: int, count: int) -> None:
    async with _broker(port) as broker:
        await broker.start()

        async def call() -> None:
            await broker.request(PAYLOAD, "bench.faststream", timeout=10)

        give(**await time_calls_async(call, count))


async def tasks(port: int, threads: int, count: int) -> None:
    async with _broker(port) as broker:
        await broker.start()

        async def call() -> None:
            await broker.request(PAYLOAD, "bench.faststream", timeout=30)

        give(**await rate_of_tasks(call, threads, count))


main(serve=serve, latency=latency, tasks=tasks)
