"""turbo_queue, as it is in this checkout."""

from __future__ import annotations

import tempfile
from itertools import repeat
from time import monotonic, perf_counter
from typing import Any

import crew
from crew import EVENT

from turbo_queue import Queue

PAYLOAD: dict[str, Any] = {
    "json": EVENT,
    "raw": b'{"data":"add_to_queue","id":12345,"user":"abcdef","ts":1678299438.25,"tags":["a"]}',
}


def hand_over(
    producers: int,
    consumers: int,
    events: int,
    codec: str = "json",
    is_single: bool = False,
    **_: Any,
) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        queue = Queue(f"{folder}/queue", codec=codec, max_ready_files=50)
        event = PAYLOAD[codec]

        def produce(_: int, events: int) -> None:
            with queue.producer() as producer:
                if is_single:
                    for _ in repeat(None, events):
                        producer.put(event)
                else:
                    producer.put_many(repeat(event, events))

        def consume(_: int) -> float:
            with queue.consumer() as consumer:
                for _ in consumer:
                    pass
                return monotonic()

        queue.producer().close()  # The folder is there before the processes are.
        return crew.hand_over(
            *(producers, consumers, events, produce, consume),
            end=queue.close,
            count=lambda: queue.stats().traffic.events_out,
        )


def wake_up(count: int, **_: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        queue = Queue(f"{folder}/queue")
        with queue.producer() as producer:
            ends = {}

            def take() -> Any:
                if "consumer" not in ends:
                    ends["consumer"] = queue.consumer()
                return ends["consumer"].get()

            return crew.wake_up(count, producer.put, take)


def claims(ready: int, **_: Any) -> dict[str, float]:
    """The mean time of 1,000 claims; with ten files ready, in rounds of ten."""
    claimed, spent = 0, 0.0
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        queue = Queue(f"{folder}/queue", max_events_per_file=1)
        while claimed < 1000:
            with queue.producer() as producer:
                producer.put_many([EVENT] * ready)
            with queue.consumer() as consumer:
                for _ in range(min(ready, 1000)):
                    began = perf_counter()
                    batch = consumer.take()
                    spent += perf_counter() - began
                    batch.acknowledge()
                    claimed += 1
    return {"us": spent / claimed * 1e6}


crew.main(hand_over=hand_over, wake_up=wake_up, claims=claims)
