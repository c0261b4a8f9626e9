"""Producer and consumer processes of one party, started together and timed to the last event.

A party's program gives three functions: `produce(index, events)`, `consume(index)`, which returns
how many events it got and when it had the last of them, and `end()`, called when all producers are
done. Imports nothing but the standard library.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

EVENT = {
    "data": "add_to_queue",
    "id": 12345,
    "user": "abcdef",
    "ts": 1678299438.25,
    "tags": ["a", "b", "c"],
}

#: How many events go into one call, where a party has a call for many.
TOGETHER = 100

fork = multiprocessing.get_context("fork")


def cpu_s() -> float:
    """The CPU time of this process, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(**roles: Callable[..., Any]) -> None:
    """Run the role that the harness asks for, and give its result."""
    print(json.dumps(roles[sys.argv[1]](**json.loads(sys.argv[2]))), flush=True)


def hand_over(
    producers: int,
    consumers: int,
    events: int,
    produce: Callable[[int, int], None],
    consume: Callable[[int], tuple[int, float] | float],
    end: Callable[[], None] = lambda: None,
    count: Callable[[], int] | None = None,
) -> dict[str, float]:
    """Move so many events, and give the rate and the CPU time of all processes for each.

    Where the party counts what went through, `count` gives that, and `consume` the time alone.
    """
    share = events // producers // TOGETHER * TOGETHER
    gate = fork.Barrier(producers + consumers + 1)
    cpu = fork.RawArray("d", producers + consumers)
    got = fork.RawArray("q", consumers)
    last = fork.RawArray("d", consumers)

    def producer(index: int) -> None:
        gate.wait()
        before = cpu_s()
        produce(index, share)
        cpu[index] = cpu_s() - before

    def consumer(index: int) -> None:
        gate.wait()
        before = cpu_s()
        outcome = consume(index)
        got[index], last[index] = (0, outcome) if isinstance(outcome, float) else outcome
        cpu[producers + index] = cpu_s() - before

    sources = [fork.Process(target=producer, args=(index,)) for index in range(producers)]
    sinks = [fork.Process(target=consumer, args=(index,)) for index in range(consumers)]
    for process in (*sources, *sinks):
        process.start()
    gate.wait()
    began = monotonic()
    for process in sources:
        process.join()
    end()
    for process in sinks:
        process.join()
    moved = share * producers
    came = count() if count else sum(got)
    if came != moved:
        raise RuntimeError(f"{came} of {moved} events came")
    return {"rate": moved / (max(last) - began), "cpu_us": sum(cpu) / moved * 1e6}


def wake_up(count: int, put: Callable[[Any], None], take: Callable[[], Any]) -> dict[str, float]:
    """Put an event now and then; how long does it take to an idle consumer?

    Args:
        count: How many events.
        put: Called in this process with the time.
        take: Called in a process of its own; gives the next event.
    """
    times = fork.RawArray("d", count)

    def consumer() -> None:
        for index in range(count):
            put_at = take()
            times[index] = monotonic() - float(put_at)

    process = fork.Process(target=consumer)
    process.start()
    sleep(1)
    for index in range(count):
        put(monotonic())
        sleep(0.013 + index % 7 / 1000)
        if index == count // 2:
            before = _cpu_of(process.pid or 0)
            sleep(4)
            idle_percent = (_cpu_of(process.pid or 0) - before) / 4 * 100
    process.join()
    ordered = sorted(times)
    return {
        "p50_us": ordered[count // 2] * 1e6,
        "p99_us": ordered[count * 99 // 100] * 1e6,
        "idle_percent": idle_percent,
    }


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
