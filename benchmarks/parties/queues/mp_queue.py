"""multiprocessing.Queue of the standard library."""

from __future__ import annotations

from time import monotonic
from typing import Any

import crew
from crew import EVENT


def hand_over(producers: int, consumers: int, events: int, **_: Any) -> dict[str, float]:
    queue = crew.fork.Queue(10_000)

    def produce(_: int, events: int) -> None:
        for _ in range(events):
            queue.put(EVENT)

    def consume(_: int) -> tuple[int, float]:
        got = 0
        while queue.get() is not None:
            got += 1
        return got, monotonic()

    def end() -> None:
        for _ in range(consumers):
            queue.put(None)

    return crew.hand_over(producers, consumers, events, produce, consume, end)


def wake_up(count: int, **_: Any) -> dict[str, float]:
    queue = crew.fork.Queue()
    return crew.wake_up(count, queue.put, queue.get)


crew.main(hand_over=hand_over, wake_up=wake_up)
