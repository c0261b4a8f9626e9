"""What is in a queue, seen from outside."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import msgspec

from fixtures.processes import Processes
from fixtures.queues import drain, files, fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import Queue, StateStats, Traffic


def test_batches_and_events_by_state(queue: Queue) -> None:
    fill_in_batches(queue, range(10), range(20), range(30))
    with queue.producer() as producer, queue.consumer() as consumer:
        producer.begin()
        first = consumer.take()
        assert first
        first.checkpoint(len(first) - 4)
        stats = queue.stats()

        assert (stats.loading.batches, stats.ready.batches, stats.chosen.batches) == (
            1,
            len(files(queue, "ready_")),
            1,
        )
        assert stats.chosen.events == 4
        assert stats.ready.events == len(list(queue.peek()))
        assert stats.producers == stats.consumers == (os.getpid(),)
        assert stats.loading.abandoned == stats.chosen.abandoned == 0
        assert 0 <= stats.ready.oldest_s < 60


def test_traffic_counts_on_over_restarts(queue: Queue) -> None:
    fill_in_batches(queue, range(10))
    drain(queue)
    fill_in_batches(queue, range(5))

    traffic = queue.stats().traffic

    assert (traffic.events_in, traffic.events_out) == (15, 10)
    assert traffic.batches_in >= traffic.batches_out


def test_the_figures_of_the_dead_are_not_lost(queue: Queue, processes: Processes) -> None:
    process = processes.python(
        """
        import sys, time, turbo_queue
        producer = turbo_queue.Queue(sys.argv[1]).producer()
        producer.put_many(range(7))
        producer.flush()
        print("flushed")
        time.sleep(60)
        """,
        str(queue.path),
    )
    process.wait_for("flushed")
    assert len(queue.stats().producers) == 1
    process.kill()
    process.wait()

    assert queue.stats().producers == ()
    assert queue.stats().traffic.events_in == 7
    queue.recover()
    assert queue.stats().traffic.events_in == 7
    assert os.listdir(queue.path / ".alive") == []


def test_a_dead_owners_batch_is_seen_as_abandoned(queue: Queue, processes: Processes) -> None:
    fill_in_batches(queue, range(10))
    process = processes.python(
        """
        import sys, time, turbo_queue
        batch = turbo_queue.Queue(sys.argv[1]).consumer().take()
        print("taken")
        time.sleep(60)
        """,
        str(queue.path),
    )
    process.wait_for("taken")
    assert queue.stats().chosen.abandoned == 0
    process.kill()
    process.wait()

    eventually(lambda: queue.stats().chosen.abandoned == 1)


def test_a_queue_that_was_never_used_has_nothing(queue: Queue) -> None:
    queue.path.mkdir()

    stats = queue.stats()

    assert replace(stats.ready, oldest_s=0.0) == StateStats()
    assert stats.traffic == Traffic()
    assert os.listdir(queue.path) == []


def test_the_stats_are_json(queue: Queue) -> None:
    fill_in_batches(queue, [1])

    assert msgspec.json.decode(msgspec.json.encode(queue.stats().as_dict()))["ready"]["events"] == 1


def test_a_foreign_database_is_not_run_to_count_its_events(queue: Queue) -> None:
    fill_in_batches(queue, [1, 2])
    name = "ready_1795247780_019aa5d5-0000-7000-8000-000000000001.db"
    with closing(sqlite3.connect(queue.path / name)) as database:
        database.execute("CREATE VIEW batch AS SELECT 1000 AS events")  # Or one without an end.

    stats = queue.stats()

    assert (stats.ready.batches, stats.ready.events) == (2, 2)
