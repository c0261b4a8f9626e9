"""turbo_queue's pipeline, as it is in this checkout."""

from __future__ import annotations

import tempfile
import threading
from typing import Any

import line
from events import work
from turbo_queue.connectors.kafka import KafkaSink, KafkaSource

from turbo_queue.connectors import Intake, Reader, Writer
from turbo_queue.pipeline import Pipeline


class Source(KafkaSource):
    def open(self, intake: Intake) -> Reader:
        line.name_process("reader")
        return super().open(intake)


class Sink(KafkaSink):
    def open(self, stopping: threading.Event) -> Writer:
        line.name_process("writer")
        return super().open(stopping)


class Work:
    """Made in each process that works."""

    def __init__(self) -> None:
        line.name_process("worker")

    def __call__(self, event: bytes) -> bytes:
        return work(event)


def pipeline(bootstrap: str, source: str, sink: str, group: str, processes: int, **_: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        line.name_process("supervisor")
        events = Source(
            source,
            group=group,
            bootstrap_servers=bootstrap,
            settings={"auto.offset.reset": "earliest"},
        )
        results = Sink(sink, bootstrap_servers=bootstrap)
        line.await_go()
        Pipeline(events, Work, results, processes=processes, folder=folder).run()


line.main(pipeline=pipeline)
