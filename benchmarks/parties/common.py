"""What the parties' programs share. It imports nothing but the standard library."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

#: 100 bytes as JSON.
PAYLOAD = {"text": "x" * 89}

WARM_UP = 200


def ready() -> None:
    """Tell the harness that this program serves."""
    print("READY", flush=True)


def give(**result: Any) -> None:
    """Give the result to the harness."""
    print(json.dumps(result), flush=True)


def cpu_s() -> float:
    """The CPU time of this process, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def percentiles(times: list[float]) -> dict[str, float]:
    """Median and 99th percentile, in microseconds."""
    times.sort()
    return {"p50_us": times[len(times) // 2] * 1e6, "p99_us": times[len(times) * 99 // 100] * 1e6}


def time_calls(call: Callable[[], object], count: int) -> dict[str, float]:
    """Latency of one call after the other."""
    for _ in range(min(WARM_UP, count)):
        call()
    times = []
    for _ in range(count):
        began = perf_counter()
        call()
        times.append(perf_counter() - began)
    return percentiles(times)


async def time_calls_async(call: Callable[[], Awaitable[object]], count: int) -> dict[str, float]:
    """The same for a coroutine function."""
    for _ in range(min(WARM_UP, count)):
        await call()
    times = []
    for _ in range(count):
        began = perf_counter()
        await call()
        times.append(perf_counter() - began)
    return percentiles(times)


async def rate_of_tasks(
    call: Callable[[], Awaitable[object]], tasks: int, count: int
) -> dict[str, float]:
    """Calls a second of so many tasks at once."""

    async def work() -> None:
        for _ in range(count // tasks):
            await call()

    await call()
    began = perf_counter()
    await asyncio.gather(*[work() for _ in range(tasks)])
    return {"rate": count // tasks * tasks / (perf_counter() - began)}


def main(**roles: Callable[..., Any]) -> None:
    """Run the role that the harness asks for."""
    outcome = roles[sys.argv[1]](**json.loads(sys.argv[2]))
    if asyncio.iscoroutine(outcome):
        asyncio.run(outcome)
