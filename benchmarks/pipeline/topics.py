"""The topics of a run: events put into one, results counted and checked in another."""

from __future__ import annotations

from array import array
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from time import monotonic, sleep

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.parties.pipelines.events import event, number_of, work

PARTITIONS = 4

#: How often the results are counted. When each of them came, the broker has noted itself.
COUNT_S = 0.2

#: A party that adds no result for so long adds none any more; longer than a group waits for a
#: consumer that has died.
PATIENCE_S = 60

#: Each so many results, one is compared with what it should be.
SAMPLE = 1000


@dataclass(frozen=True)
class Results:
    """What a topic of results holds.

    Args:
        lost: How many events have no result.
        duplicates: How many results there are too many.
        wrong: How many of the compared ones are not what they should be.
        first_at: When the broker had the first one, in seconds since 1970.
        last_at: … and the one that made them complete.
    """

    lost: int
    duplicates: int
    wrong: int
    first_at: float
    last_at: float


class Topics:
    """Topics of a broker.

    Args:
        bootstrap: Its address.
    """

    def __init__(self, bootstrap: str) -> None:
        # The broker is gone before the clients are; they need not say so.
        self._servers: dict[str, str | int | bool] = {
            "bootstrap.servers": bootstrap,
            "log_level": 2,
        }
        self._admin = AdminClient(self._servers)
        self._numbers = count()
        self._made: list[str] = []

    def make(self) -> str:
        """A new, empty topic, whose records tell when the broker had them."""
        name = f"daebus-bench-{monotonic():.0f}-{next(self._numbers)}"
        config = {"message.timestamp.type": "LogAppendTime"}
        topic = NewTopic(name, PARTITIONS, 1, config=config)
        self._admin.create_topics([topic])[name].result()
        self._made.append(name)
        return name

    def fill(self, name: str, events: int) -> None:
        """Put so many events into a topic, as many into each partition."""
        producer = Producer(self._servers | {"linger.ms": 50})
        for number in range(events):
            while True:
                with suppress(BufferError):
                    producer.produce(name, event(number), partition=number % PARTITIONS)
                    break
                producer.poll(0.1)
        producer.flush()

    def await_results(self, name: str, wanted: int) -> None:
        """Wait until a topic holds so many, or has had no new one for too long."""
        consumer = self._reader()
        held, grew_at = 0, monotonic()
        while held < wanted and monotonic() - grew_at < PATIENCE_S:
            sleep(COUNT_S)
            now = sum(end for _, end in self._ends(consumer, name))
            if now != held:
                held, grew_at = now, monotonic()
        consumer.close()

    def results(self, name: str, events: int) -> Results:
        """Read all results in a topic, and wait a moment for those that are missing."""
        consumer = self._reader()
        ends = self._ends(consumer, name)
        consumer.assign([TopicPartition(name, partition, 0) for partition, _ in ends])
        seen, missing, duplicates, wrong = array("b", bytes(events)), events, 0, 0
        first_ms, last_ms = 1 << 62, 0
        rest = sum(end for _, end in ends)
        while rest > 0 or missing:
            messages = consumer.consume(10_000, 1 if rest > 0 else PATIENCE_S)
            if not messages and rest <= 0:
                break
            rest -= len(messages)
            for message in messages:
                value = message.value()
                number = number_of(value)
                if seen[number]:
                    duplicates += 1
                    continue
                seen[number] = 1
                missing -= 1
                at = message.timestamp()[1]
                first_ms, last_ms = min(first_ms, at), max(last_ms, at)
                wrong += number % SAMPLE == 0 and value != work(event(number))
        consumer.close()
        return Results(missing, duplicates, wrong, first_ms / 1000, last_ms / 1000)

    def drop(self, *names: str) -> None:
        """Delete topics; they are large."""
        for future in self._admin.delete_topics(list(names)).values():
            with suppress(KafkaException):
                future.result()
        self._made = [name for name in self._made if name not in names]

    def drop_all(self) -> None:
        """Delete all topics that were made here."""
        if self._made:
            self.drop(*self._made)

    def _reader(self) -> Consumer:
        own = {"group.id": "daebus-bench", "enable.auto.commit": False}
        return Consumer(self._servers | own)

    def _ends(self, consumer: Consumer, name: str) -> list[tuple[int, int]]:
        """Each partition, and how many it holds."""
        found = []
        for partition in range(PARTITIONS):
            place = TopicPartition(name, partition)
            found.append((partition, consumer.get_watermark_offsets(place, timeout=10)[1]))
        return found
