"""turbo-queue 0.8.0 from PyPI. It counts its batches by hand and polls every 50 ms."""

from __future__ import annotations

import tempfile
from time import monotonic, sleep
from typing import Any

import crew
from crew import EVENT

from turbo_queue import Dequeue, Enqueue

fork = crew.fork


def enqueuer(folder: str, per_file: int) -> Any:
    enqueue = Enqueue()
    enqueue.setup_logging(log_file="/dev/null")
    enqueue.root_path, enqueue.queue_name = folder, "queue"
    enqueue.max_events_per_file, enqueue.max_ready_files = per_file, 50
    enqueue.start()
    enqueue.update_enqueue_active_state()
    return enqueue


def dequeuer(folder: str) -> Any:
    dequeue = Dequeue()
    dequeue.setup_logging(log_file="/dev/null")
    dequeue.root_path, dequeue.queue_name = folder, "queue"
    return dequeue


def hand_over(producers: int, consumers: int, events: int, **_: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        is_done = fork.RawValue("b", 0)

        def produce(_: int, events: int) -> None:
            enqueue = enqueuer(folder, 1000)
            for number in range(events):
                enqueue.add(EVENT)
                if number % 1000 == 0:
                    enqueue.update_enqueue_active_state()
                    while not enqueue.enqueue_active:
                        sleep(0.001)
                        enqueue.update_enqueue_active_state()
            if enqueue.row_count:
                enqueue._roll_next_batch()

        def consume(_: int) -> tuple[int, float]:
            dequeue, got, last = dequeuer(folder), 0, monotonic()
            while True:
                was_done, before = is_done.value, got
                for event in dequeue.get():
                    if event is None:
                        break
                    got += 1
                if got != before:
                    last = monotonic()
                elif was_done:
                    return got, last

        return crew.hand_over(
            producers, consumers, events, produce, consume, lambda: setattr(is_done, "value", 1)
        )


def wake_up(count: int, **_: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        enqueue = enqueuer(folder, 1)
        ends: dict[str, Any] = {}

        def take() -> Any:
            """The next event, asked for as its README does: again after each None."""
            if not ends:
                ends["dequeue"] = dequeuer(folder)
                ends["events"] = ends["dequeue"].get()
            while True:
                event = next(ends["events"], None)
                if event is not None:
                    return event
                ends["events"] = ends["dequeue"].get()

        # Its table makes a number of a text that looks like one, which it then cannot read.
        return crew.wake_up(count, lambda put_at: enqueue.add({"at": put_at}), lambda: take()["at"])


crew.main(hand_over=hand_over, wake_up=wake_up)
