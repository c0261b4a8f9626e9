"""nats-py over a real nats-server."""

from __future__ import annotations

import asyncio
import json
from time import monotonic, perf_counter

import nats
from common import PAYLOAD, cpu_s, give, main, rate_of_tasks, ready, time_calls_async

DATA = json.dumps(PAYLOAD).encode()


async def _connect(port: int) -> nats.NATS:
    return await nats.connect(f"nats://127.0.0.1:{port}", pending_size=64 * 1024 * 1024)


async def serve(port: int, workers: int = 10) -> None:  # noqa: ARG001 - one loop serves them all
    client = await _connect(port)

    async def echo(message: nats.aio.msg.Msg) -> None:
        await message.respond(json.dumps(json.loads(message.data)).encode())

    await client.subscribe("bench.nats", cb=echo)
    await client.flush()
    ready()
    await asyncio.Event().wait()


async def latency(port: int, count: int) -> None:
    client = await _connect(port)

    async def call() -> None:
        json.loads((await client.request("bench.nats", DATA, timeout=10)).data)

    give(**await time_calls_async(call, count))
    await client.close()


async def tasks(port: int, threads: int, count: int) -> None:
    client = await _connect(port)

    async def call() -> None:
        json.loads((await client.request("bench.nats", DATA, timeout=30)).data)

    give(**await rate_of_tasks(call, threads, count))
    await client.close()


async def listen(port: int, count: int) -> None:
    client = await _connect(port)
    heard, done = 0, asyncio.Event()

    async def on_event(message: nats.aio.msg.Msg) -> None:
        nonlocal heard
        json.loads(message.data)
        heard += 1
        if heard == count:
            done.set()

    await client.subscribe(
        "bench.events",
        cb=on_event,
        pending_msgs_limit=count * 2,
        pending_bytes_limit=2 * 1024 * 1024 * 1024,
    )
    await client.flush()
    ready()
    last, since = -1, monotonic()
    while not done.is_set() and monotonic() - since < 10:
        if heard != last:
            last, since = heard, monotonic()
        await asyncio.sleep(0.05)
    give(received=heard, cpu_us=cpu_s() / count * 1e6)
    await client.close()


async def publish(port: int, count: int) -> None:
    client = await _connect(port)
    began = perf_counter()
    for number in range(count):
        await client.publish("bench.events", json.dumps(PAYLOAD).encode())
        if number % 500 == 0:
            await client.flush()
    await client.flush()
    give(sent=count, took_s=perf_counter() - began)
    await client.close()


main(serve=serve, latency=latency, threads=tasks, listen=listen, publish=publish)
