"""Quix Streams: each process consumes, works, and produces, in one group."""

from __future__ import annotations

from typing import Any

import line
from events import work
from quixstreams import Application


def pipeline(
    bootstrap: str, source: str, sink: str, group: str, processes: int, folder: str, **_: Any
) -> None:
    def stream() -> None:
        app = Application(
            bootstrap,
            consumer_group=group,
            auto_offset_reset="earliest",
            auto_create_topics=False,
            producer_extra_config=line.PRODUCER,
            state_dir=folder,
            loglevel="WARNING",
        )
        events = app.topic(source, value_deserializer="bytes")
        results = app.topic(sink, value_serializer="bytes")
        app.dataframe(events).apply(work).to_topic(results)
        app.run()

    line.run(*[("whole", stream)] * processes)


line.main(pipeline=pipeline)
