"""turbo_queue's pipeline, as it is in this checkout."""

from __future__ import annotations

from typing import Any

import line
from events import work

from turbo_queue.connectors.kafka import KafkaSink, KafkaSource
from turbo_queue.pipeline import Pipeline


def pipeline(
    bootstrap: str, source: str, sink: str, group: str, processes: int, folder: str, **_: Any
) -> None:
    events = KafkaSource(source, group=group, bootstrap_servers=bootstrap)
    results = KafkaSink(sink, bootstrap_servers=bootstrap)
    line.name_process("supervisor")
    line.await_go()
    Pipeline(events, work, results, processes=processes, folder=f"{folder}/pipeline").run()


line.main(pipeline=pipeline)
