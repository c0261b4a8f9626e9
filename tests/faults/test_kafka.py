"""F38, F39: kill -9 of what reads and of what writes Kafka, and of the broker."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest

from fixtures.kafka import Cluster, Lap
from fixtures.processes import Process, Processes
from fixtures.queues import drain, files
from fixtures.waiting import eventually
from kafka_broker import KafkaBroker
from turbo_queue import Queue
from turbo_queue.connectors import Record, empty
from turbo_queue.connectors.kafka import KafkaSink, KafkaSource
from turbo_queue.errors import SinkFailed

EVENTS = 20_000
KILLS = 5

#: Reads 20 events each 2 ms, so that it is killed while events are on their way.
READER = """
import json, sys
from turbo_queue import Queue
from turbo_queue.connectors import fill
from turbo_queue.connectors.kafka import KafkaSource

class Slow(KafkaSource):
    def open(self, intake):
        reader = super().open(intake)
        read = reader.read
        def read_slowly(most, timeout_s):
            intake.stopping.wait(0.002)
            return read(min(most, 20), timeout_s)
        reader.read = read_slowly
        return reader

path, topic, bootstrap, settings = sys.argv[1:]
queue = Queue(path, codec="record", max_events_per_file=500)
source = Slow(topic, group=topic, bootstrap_servers=bootstrap, settings=json.loads(settings))
fill(queue, source)
"""

#: Writes a batch each 10 ms.
WRITER = """
import sys
from turbo_queue import Queue
from turbo_queue.connectors import empty
from turbo_queue.connectors.kafka import KafkaSink

class Slow(KafkaSink):
    def open(self, stopping):
        writer = super().open(stopping)
        write = writer.write
        def write_slowly(records):
            stopping.wait(0.01)
            write(records)
        writer.write = write_slowly
        return writer

path, topic, bootstrap = sys.argv[1:]
empty(Queue(path, codec="record"), Slow(topic, bootstrap_servers=bootstrap))
"""

#: Events of a batch that a reader makes.
BATCH_READ = 500

#: Events of a batch that a writer takes, and of all that it has not acknowledged at a time.
BATCH, UNACKNOWLEDGED = 50, 32 * 50


def _kill_a_reader(
    cluster: Cluster, queue: Queue, processes: Processes, moment: float, events: int
) -> int:
    """Kill a reader when it has read a part of a topic; gives how many events are there twice."""
    topic, settings = cluster.topic(), json.dumps(cluster.short)
    cluster.put(topic, range(events))
    queue.producer().close()  # It makes the folder.

    def reader() -> Process:
        return processes.python(READER, str(queue.path), topic, cluster.bootstrap, settings)

    def ready() -> int:
        return len(files(queue, "ready")) * BATCH_READ

    reading = reader()
    eventually(lambda: ready() > events * moment, 40)
    assert ready() < events
    reading.kill()
    reading = reader()
    eventually(lambda: cluster.committed(topic, topic) == events, 40)
    reading.kill()
    reading.wait()

    times = Counter(int(record.value) for record in drain(Queue(queue.path, codec="record")))
    assert set(times) == set(range(events))
    return times.total() - len(times)


@pytest.mark.timeout(180)
def test_killed_readers_lose_nothing(
    cluster: Cluster, tmp_path: Path, processes: Processes, seed: int
) -> None:
    moments = random.Random(seed)

    # At once, because a group waits for a member that was killed until its session has timed out.
    with ThreadPoolExecutor(KILLS) as pool:
        readers = [
            pool.submit(
                _kill_a_reader,
                cluster,
                Queue(tmp_path / str(number)),
                processes,
                moments.uniform(0.1, 0.8),
                EVENTS // KILLS,
            )
            for number in range(KILLS)
        ]
        duplicates = [reader.result() for reader in readers]

    print(f"seed {seed}: duplicates of {KILLS} kills: {duplicates}")
    assert max(duplicates) <= BATCH_READ


def _kill_writers(
    cluster: Cluster,
    queue: Queue,
    processes: Processes,
    seed: int,
    broker: KafkaBroker | None = None,
) -> None:
    moments, topic = random.Random(seed), cluster.topic()
    with Queue(queue.path, codec="record", max_events_per_file=BATCH).producer() as producer:
        producer.put_many(Record(str(number).encode()) for number in range(EVENTS))

    def writer() -> Process:
        return processes.python(WRITER, str(queue.path), topic, cluster.bootstrap)

    def left() -> int:
        return len(files(queue)) * BATCH

    writing = writer()
    for kill in range(KILLS):
        share = EVENTS * (kill + 1 + moments.random()) / (KILLS + 2)
        eventually(lambda share=share: EVENTS - left() > share, 40)
        if broker and kill == KILLS // 2:
            _miss_the_broker(broker, queue)
        threading.Event().wait(moments.uniform(0.05, 0.25))  # Into what is not acknowledged yet.
        writing.kill()
        writing = writer()
    eventually(lambda: not files(queue), 40)
    writing.kill()
    writing.wait()

    times = Counter(int(message.value()) for message in cluster.messages(topic))
    duplicates = times.total() - len(times)
    print(f"seed {seed}: {duplicates} duplicates in {KILLS} kills")
    assert set(times) == set(range(EVENTS))
    assert 0 < duplicates <= (KILLS + 1) * UNACKNOWLEDGED


def _miss_the_broker(broker: KafkaBroker, queue: Queue) -> None:
    """For 3 s: of what was not confirmed nothing is removed."""
    broker.kill()
    threading.Event().wait(0.5)  # What was confirmed before is acknowledged.
    before = files(queue)
    threading.Event().wait(2.5)
    assert len(files(queue)) == len(before) > 0
    broker.start()


@pytest.mark.timeout(180)
def test_killed_writers_lose_nothing(
    cluster: Cluster, queue: Queue, processes: Processes, seed: int
) -> None:
    _kill_writers(cluster, queue, processes, seed)


@pytest.mark.timeout(180)
def test_a_broker_that_is_down_for_a_while_loses_nothing(
    own_kafka: KafkaBroker, queue: Queue, processes: Processes, seed: int
) -> None:
    cluster = Cluster(own_kafka.bootstrap, is_real=True)

    _kill_writers(cluster, queue, processes, seed, own_kafka)


@pytest.mark.leaves_threads
def test_both_ends_close_soon_while_the_broker_is_down(own_kafka: KafkaBroker) -> None:
    cluster, lap, stopping = Cluster(own_kafka.bootstrap, is_real=True), Lap(), threading.Event()
    topic = cluster.topic()
    cluster.put(topic, range(100))
    reader = KafkaSource(topic, group=topic, bootstrap_servers=cluster.bootstrap).open(lap)
    writer = KafkaSink(topic, bootstrap_servers=cluster.bootstrap).open(stopping)
    lap.read(reader, 100)
    own_kafka.kill()
    stopping.set()

    begun = monotonic()
    writer.write([Record(b"x")] * 1000)
    with pytest.raises(SinkFailed, match="1,000 events are not confirmed"):
        writer.flush()
    writer.close()
    reader.commit()
    reader.close()

    assert monotonic() - begun < 15


def test_a_reader_goes_on_when_the_broker_is_back(own_kafka: KafkaBroker) -> None:
    cluster, lap = Cluster(own_kafka.bootstrap, is_real=True), Lap()
    topic = cluster.topic()
    cluster.put(topic, range(100))
    reader = KafkaSource(topic, group=topic, bootstrap_servers=cluster.bootstrap).open(lap)
    lap.read(reader, 100)
    own_kafka.kill()
    reader.commit()
    for _ in range(10):
        assert reader.read(100, 0.05) == []

    own_kafka.start()
    cluster.put(topic, range(100, 200))
    lap.read(reader, 200)
    reader.commit()
    reader.close()

    assert Counter(int(record.value) for record in lap.records) == Counter(range(200))
    assert cluster.committed(topic, topic) == 200


def test_a_queue_is_emptied_when_the_broker_is_back(own_kafka: KafkaBroker, queue: Queue) -> None:
    cluster = Cluster(own_kafka.bootstrap, is_real=True)
    topic = cluster.topic()
    sink = KafkaSink(
        topic, bootstrap_servers=cluster.bootstrap, settings={"message.timeout.ms": 500}
    )
    with Queue(queue.path, codec="raw").producer() as producer:
        producer.put(b"1")
    writer = sink.open(threading.Event())
    own_kafka.kill()
    writer.write([Record(b"0")])
    with pytest.raises(SinkFailed, match="timed out"):
        writer.flush()
    writer.close()

    own_kafka.start()
    empty(Queue(queue.path, codec="raw"), sink, stop_when_empty=True)

    assert "1" in {message.value().decode() for message in cluster.messages(topic)}
