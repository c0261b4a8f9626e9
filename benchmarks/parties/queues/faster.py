"""faster-fifo: shared memory, a hundred events in each call."""

from __future__ import annotations

from queue import Empty
from time import monotonic
from typing import Any

import crew
from crew import EVENT, TOGETHER
from faster_fifo import Queue


def hand_over(producers: int, consumers: int, events: int, **_: Any) -> dict[str, float]:
    queue = Queue(max_size_bytes=20_000_000)

    def produce(_: int, events: int) -> None:
        some = [EVENT] * TOGETHER
        for _ in range(events // TOGETHER):
            queue.put_many(some, timeout=60)

    def consume(_: int) -> tuple[int, float]:
        got, last = 0, monotonic()
        while True:
            try:
                some = queue.get_many(max_messages_to_get=TOGETHER, timeout=60)
            except Empty:
                continue
            ends = some.count(None)
            got += len(some) - ends
            last = monotonic()
            if ends:
                for _ in range(ends - 1):  # The others'.
                    queue.put(None)
                return got, last

    def end() -> None:
        for _ in range(consumers):
            queue.put(None)

    return crew.hand_over(producers, consumers, events, produce, consume, end)


def wake_up(count: int, **_: Any) -> dict[str, float]:
    queue = Queue()
    return crew.wake_up(count, queue.put, lambda: queue.get(timeout=60))


crew.main(hand_over=hand_over, wake_up=wake_up)
