"""turbo-queue 0.8.0 from PyPI: its KafkaEnqueue, two workers, its KafkaDequeue.

What it needed: `settings` without what Kafka 4 refuses (versions of the protocol from before
0.10), and workers, for which it has no class. Its offsets are committed by themselves.
"""

from __future__ import annotations

from typing import Any

import line
from events import result_of

from turbo_queue import Dequeue, Enqueue, KafkaDequeue, KafkaEnqueue

#: It pauses for 0.1 s after each file and after so many events produced, and never makes a file
#: ready that is not full.
EVENTS_PER_FILE = 10_000
READY_FILES = 50


class Consumer(KafkaEnqueue):
    def settings(self) -> dict[str, Any]:
        found = super().settings()
        del found["api.version.request"], found["broker.version.fallback"]
        return found


def pipeline(
    bootstrap: str, source: str, sink: str, group: str, processes: int, folder: str, **_: Any
) -> None:
    def consume() -> None:
        consumer = Consumer()
        consumer.turbo_queue_root_path, consumer.turbo_queue_queue_name = folder, "in"
        consumer.turbo_queue_max_events_per_file = EVENTS_PER_FILE
        consumer.turbo_queue_max_ready_files = READY_FILES
        consumer.kafka_brokers, consumer.kafka_group_id = bootstrap, group
        consumer.kafka_client_id = "consumer"
        consumer.kafka_auto_offset_reset = "earliest"
        consumer.kafka_subscribe(source)
        consumer.start()

    def work_on() -> None:
        dequeue, enqueue = Dequeue(), Enqueue()
        dequeue.root_path, dequeue.queue_name = folder, "in"
        enqueue.setup_logging(log_file="/dev/null")
        enqueue.root_path, enqueue.queue_name = folder, "out"
        enqueue.max_events_per_file, enqueue.max_ready_files = EVENTS_PER_FILE, READY_FILES
        enqueue.start()
        while True:
            for event in dequeue.get():
                if event is None:
                    break
                enqueue.add(result_of(event))

    def produce() -> None:
        producer = KafkaDequeue()
        producer.turbo_queue_root_path, producer.turbo_queue_queue_name = folder, "out"
        producer.kafka_brokers, producer.kafka_producer_topic = bootstrap, sink
        producer.call_poll_per_events = EVENTS_PER_FILE
        producer.start()

    workers = [("worker", work_on)] * processes
    line.run(("reader", consume), *workers, ("writer", produce))


line.main(pipeline=pipeline)
