"""multiprocessing.Queue from a consumer to two workers, and from those to a producer.

The offsets are committed by themselves, as nothing tells the consumer what has been produced: what
is in the queues when a process dies is lost.
"""

from __future__ import annotations

from typing import Any

import line
from confluent_kafka import Consumer, Producer
from events import work

#: As many events may wait, so that the memory stays bounded.
EVENTS_WAITING = 10_000


def pipeline(
    bootstrap: str,
    source: str,
    sink: str,
    group: str,
    processes: int,
    together: int,
    **_: Any,
) -> None:
    waiting = line.fork.Queue(EVENTS_WAITING // together)
    results = line.fork.Queue(EVENTS_WAITING // together)
    servers = {"bootstrap.servers": bootstrap}

    def consume_together() -> None:
        consumer = Consumer(servers | {"group.id": group, "auto.offset.reset": "earliest"})
        consumer.subscribe([source])
        while True:
            values = [message.value() for message in consumer.consume(together, 0.1)]
            if values:
                waiting.put(values)

    def consume_singly() -> None:
        consumer = Consumer(servers | {"group.id": group, "auto.offset.reset": "earliest"})
        consumer.subscribe([source])
        while True:
            message = consumer.poll(1)
            if message is not None:
                waiting.put(message.value())

    def work_together() -> None:
        while True:
            results.put([work(value) for value in waiting.get()])

    def work_singly() -> None:
        while True:
            results.put(work(waiting.get()))

    def produce_together() -> None:
        producer = Producer(servers | line.PRODUCER)
        while True:
            for result in results.get():
                producer.produce(sink, result)
            producer.poll(0)

    def produce_singly() -> None:
        producer = Producer(servers | line.PRODUCER)
        while True:
            producer.produce(sink, results.get())
            producer.poll(0)

    consume, work_on, produce = (
        (consume_singly, work_singly, produce_singly)
        if together == 1
        else (consume_together, work_together, produce_together)
    )
    workers = [("worker", work_on)] * processes
    line.run(("reader", consume), *workers, ("writer", produce))


line.main(pipeline=pipeline)
