"""turbo_queue's pipeline, as it is in this checkout."""

from __future__ import annotations

import tempfile
from typing import Any

import line
from events import work

from turbo_queue.connectors.kafka import KafkaSink, KafkaSource
from turbo_queue.pipeline import Pipeline


def pipeline(bootstrap: str, source: str, sink: str, group: str, processes: int, **_: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        events = KafkaSource(source, group=group, bootstrap_servers=bootstrap)
        results = KafkaSink(sink, bootstrap_servers=bootstrap)
        line.name_process("supervisor")
        line.await_go()
        Pipeline(events, work, results, processes=processes, folder=folder).run()


line.main(pipeline=pipeline)
