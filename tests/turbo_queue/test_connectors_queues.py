"""Queues as source and sink, where they are used like any other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fixtures.connecting import Notebook, read, take, write
from fixtures.queues import drain, fill_in_batches
from fixtures.queues import fill as put
from turbo_queue import Queue
from turbo_queue.connectors import QueueSink, QueueSource, Record, empty, fill
from turbo_queue.errors import SettingsError, SinkFailed


@pytest.fixture
def other(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "other")


def test_a_queue_is_copied_to_a_queue(queue: Queue, other: Queue) -> None:
    put(queue, range(25_000))
    queue.close()

    assert fill(other, QueueSource(queue)) == 25_000

    assert list(other.peek()) == list(range(25_000))
    assert queue.is_idle


def test_records_keep_what_came_along_with_them(tmp_path: Path) -> None:
    records = Queue(tmp_path / "records", codec="record")
    record = Record({"id": 1}, key=b"1", headers=(("h", b"v"),), timestamp_ms=3, origin="there")
    put(records, [record])

    empty(records, QueueSink(tmp_path / "copy", codec="record"), stop_when_empty=True)

    assert read(QueueSource(tmp_path / "copy"), Notebook(), 1) == [record]


def test_other_events_tell_the_batch_that_they_came_from(queue: Queue) -> None:
    put(queue, ["a"])

    [record] = read(QueueSource(queue.path), Notebook(), 1)

    assert record.value == "a"
    assert record.origin.endswith("[1]")


def test_a_batch_stays_until_all_of_it_is_committed(queue: Queue) -> None:
    fill_in_batches(queue, range(10), range(10, 20))
    reader = QueueSource(queue).open(Notebook())

    take(reader, 15)
    held = queue.stats().chosen.batches
    reader.commit()
    left = queue.stats().chosen.batches
    reader.close()

    assert (held, left) == (2, 1)
    assert sorted(drain(queue)) == list(range(15, 20))


def test_a_damaged_batch_does_not_stop_the_others(queue: Queue) -> None:
    fill_in_batches(queue, [1], [2])
    damaged = min(queue.path.glob("ready_*"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    queue.close()

    assert [record.value for record in read(QueueSource(queue), Notebook())] == [2]


def test_what_a_codec_cannot_carry_is_refused_and_the_rest_is_put(queue: Queue) -> None:
    refused = write(QueueSink(queue), [1, b"bytes", 2, object(), 3])

    assert [type(one.record.value) for one in refused] == [bytes, object]
    assert drain(queue) == [1, 2, 3]


def test_a_full_queue_holds_up_its_writer_until_the_end_is_wished_for(tmp_path: Path) -> None:
    sink = QueueSink(tmp_path / "small", max_ready_files=1, max_events_per_file=1)
    stopping = threading.Event()
    writer = sink.open(stopping)
    writer.write([Record(1)])
    threading.Timer(0.3, stopping.set).start()

    with pytest.raises(SinkFailed, match="no room"):
        writer.write([Record(2)])

    writer.close()


def test_settings_go_to_the_queue_that_is_made(tmp_path: Path) -> None:
    assert QueueSource(tmp_path / "a", codec="record").queue.settings.codec == "record"
    with pytest.raises(SettingsError):
        QueueSink(tmp_path / "a", codec="yaml")
    with pytest.raises(TypeError, match="leave out codec"):
        QueueSource(Queue(tmp_path / "a"), codec="record")
