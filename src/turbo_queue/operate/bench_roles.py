"""What the processes of `turbo-queue bench` do. Light to import: each of them does."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic, process_time
from typing import Any

from turbo_queue.errors import TurboQueueError
from turbo_queue.queue import Queue


@dataclass(frozen=True, slots=True)
class Figures:
    """What one process has measured.

    Args:
        events: How many it put or got.
        began_at: When it began, in seconds of the machine's monotonic clock.
        ended_at: When it had put or got the last one.
        cpu_s: What it used of the processor meanwhile.
    """

    events: int
    began_at: float
    ended_at: float
    cpu_s: float


def produce(queue: Queue, events: int, parent: Connection) -> None:
    """Put so many events once the parent says so, and tell it the figures."""
    _play(_put, queue, events, parent)


def consume(queue: Queue, _events: int, parent: Connection) -> None:
    """Get events once the parent says so, until the queue ends, and tell it the figures."""
    _play(_get, queue, 0, parent)


def _play(role: Any, queue: Queue, events: int, parent: Connection) -> None:
    try:
        parent.send("ready")
        parent.recv()
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        began_at, cpu_s = monotonic(), process_time()
        number, ended_at = role(queue, events)
        parent.send(Figures(number, began_at, ended_at, process_time() - cpu_s))
    except (EOFError, BrokenPipeError):
        pass  # The parent is gone, and so is whoever would read an error.
    except (TurboQueueError, OSError) as error:
        parent.send(error)


def _put(queue: Queue, events: int) -> tuple[int, float]:
    with queue.producer() as producer:
        producer.put_many(_made(events, is_raw=queue.settings.codec == "raw"))
    return events, monotonic()


def _get(queue: Queue, _events: int) -> tuple[int, float]:
    number, ended_at = 0, monotonic()
    with queue.consumer() as consumer:
        for _event in consumer:
            number += 1
            ended_at = monotonic()  # The end of the queue is noticed a moment later.
    return number, ended_at


def _made(events: int, *, is_raw: bool) -> Iterator[Any]:
    """Events of some hundred bytes."""
    text = "x" * 64
    if is_raw:
        data = b"x" * 100
        yield from (data for _ in range(events))
    else:
        yield from ({"id": number, "kind": "bench", "text": text} for number in range(events))


def _end_with(parent: Connection) -> None:
    parent.poll(None)  # Nothing more is sent; this is its end.
    os._exit(1)
