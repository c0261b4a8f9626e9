"""confluent-kafka alone: each process consumes, works, and produces.

As its documentation recommends: offsets are committed by hand, after what was made of the events
has been flushed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import line
from confluent_kafka import Consumer, KafkaException, Producer
from events import work

#: A flush waits for the broker; with so many events between two of them it costs little.
EVENTS_PER_COMMIT = 10_000


def pipeline(bootstrap: str, source: str, sink: str, group: str, processes: int, **_: Any) -> None:
    def consume_work_produce() -> None:
        servers = {"bootstrap.servers": bootstrap}
        own = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        consumer, producer = Consumer(servers | own), Producer(servers | line.PRODUCER)
        uncommitted = 0

        def commit(*_: object) -> None:
            nonlocal uncommitted
            if uncommitted:
                producer.flush()
                with suppress(KafkaException):  # Who has the partition now, does these once more.
                    consumer.commit(asynchronous=False)
                uncommitted = 0

        consumer.subscribe([source], on_revoke=commit)
        while True:
            messages = consumer.consume(1000, 0.1)
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                producer.produce(sink, work(message.value()))
            producer.poll(0)
            uncommitted += len(messages)
            if uncommitted >= EVENTS_PER_COMMIT or not messages:
                commit()

    line.run(*[("whole", consume_work_produce)] * processes)


line.main(pipeline=pipeline)
