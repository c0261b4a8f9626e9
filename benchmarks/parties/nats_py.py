"""nats-py over a real nats-server."""

from __future__ import annotations

import asyncio
import json
import threading
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
    """As many tasks of one event loop: what nats-py is made for."""
    client = await _connect(port)

    async def call() -> None:
        json.loads((await client.request("bench.nats", DATA, timeout=30)).data)

    give(**await rate_of_tasks(call, threads, count))
    await client.close()


def many_threads(port: int, threads: int, count: int) -> None:
    """As many threads that share one client, whose event loop runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    client = asyncio.run_coroutine_threadsafe(_connect(port), loop).result()

    def work() -> None:
        for _ in range(count // threads):
            request = client.request("bench.nats", DATA, timeout=30)
            json.loads(asyncio.run_coroutine_threadsafe(request, loop).result().data)

    began = perf_counter()
    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    give(rate=count // threads * threads / (perf_counter() - began))


async def listen(port: int, count: int) -> None:
    client = await _connect(port)
    heard, ended_at, done = 0, 0.0, asyncio.Event()

    async def on_event(message: nats.aio.msg.Msg) -> None:
        nonlocal heard, ended_at
        json.loads(message.data)
        heard += 1
        if heard == count:
            ended_at = monotonic()
            done.set()

    await client.subscribe(
        "bench.events",
        cb=on_event,
        pending_msgs_limit=count * 2,
        pending_bytes_limit=2 * 1024 * 1024 * 1024,
    )
    await client.flush()
    ready()
    cpu, last, since = cpu_s(), -1, monotonic()
    while not done.is_set() and monotonic() - since < 10:
        if heard != last:
            last, since = heard, monotonic()
        await asyncio.sleep(0.05)
    give(received=heard, ended_at=ended_at, cpu_us=(cpu_s() - cpu) / count * 1e6)
    await client.close()


async def publish(port: int, count: int) -> None:
    client = await _connect(port)
    began_at = monotonic()
    for number in range(count):
        await client.publish("bench.events", json.dumps(PAYLOAD).encode())
        if number % 500 == 0:
            await client.flush()
    await client.flush()
    give(sent=count, began_at=began_at)
    await client.close()


main(
    serve=serve,
    latency=latency,
    threads=many_threads,
    tasks=tasks,
    listen=listen,
    publish=publish,
)
