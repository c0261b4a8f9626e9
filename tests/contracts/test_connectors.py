"""What every source and every sink promises, beside those for Kafka."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daebus.connectors import ChannelSink, ChannelSource, RedisStreamSink, RedisStreamSource
from daebus.errors import DaebusError
from fixtures.connecting import Notebook, take, values, write
from turbo_queue import Queue
from turbo_queue.connectors import (
    IterableSource,
    JsonLinesSink,
    JsonLinesSource,
    QueueSink,
    QueueSource,
    Reader,
    Record,
    Sink,
    Source,
)

FALSY = [0, "", {}, [], False, 0.0]


@dataclass
class Place:
    """Where a sink writes and a source reads."""

    source: Callable[[], Source]
    sink: Sink
    close: Callable[[], None] = lambda: None
    intake: Notebook = field(default_factory=Notebook)
    readers: list[Reader] = field(default_factory=list)

    def open(self) -> Reader:
        """Another reader, after the last one was closed."""
        for reader in self.readers:
            reader.close()
        self.readers.append(self.source().open(self.intake))
        return self.readers[-1]

    def values(self, reader: Reader, number: int) -> list[Any]:
        return values(self.source(), take(reader, number))


class _ListSink(Sink):
    """Fills a list, for a source that is one."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def open(self, stopping: threading.Event) -> Any:
        sink = self

        class Writer:
            def write(self, records: list[Record]) -> None:
                sink.events += [record.value for record in records]

            def flush(self) -> list[Any]:
                return []

            def close(self) -> None: ...

        return Writer()


def json_lines(folder: Path, _: str) -> Place:
    path = folder / "events.jsonl"
    return Place(lambda: JsonLinesSource(path), JsonLinesSink(path))


def gzip_lines(folder: Path, _: str) -> Place:
    path = folder / "events.jsonl.gz"
    return Place(lambda: JsonLinesSource(path), JsonLinesSink(path))


def queue(folder: Path, _: str) -> Place:
    path = folder / "events"
    return Place(
        lambda: QueueSource(path, checkpoint=1),
        QueueSink(path, max_events_per_file=7),
        Queue(path).close,
    )


def record_queue(folder: Path, _: str) -> Place:
    queue = Queue(folder / "events", codec="record")
    return Place(lambda: QueueSource(queue), QueueSink(queue), queue.close)


def iterable(_: Path, __: str) -> Place:
    sink = _ListSink()
    return Place(lambda: IterableSource(lambda: sink.events), sink)


def redis_stream(_: Path, url: str) -> Place:
    stream = f"events-{uuid.uuid4().hex}"
    return Place(
        lambda: RedisStreamSource(stream, group="tests", url=url, field="event"),
        RedisStreamSink(stream, url=url, field="event"),
    )


def channel(_: Path, url: str) -> Place:
    name = f"events-{uuid.uuid4().hex}"
    place = Place(lambda: ChannelSource(name, url=url), ChannelSink(name, url=url))
    place.open()  # Nobody hears what was said before.
    return place


FINITE = [json_lines, gzip_lines, queue, record_queue, iterable]
KEEPING = [*FINITE, redis_stream]
ALL = [*KEEPING, channel]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Iterator[Place]:
    made = request.param(tmp_path, url)
    yield made
    for reader in made.readers:
        with suppress(DaebusError):
            reader.close()


def those(*places: Callable[[Path, str], Place]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", places, indirect=True, ids=lambda made: made.__name__)


@those(*ALL)
def test_what_is_written_is_read_back_in_order(place: Place) -> None:
    events = [{"id": number, "text": "é\n☃"} for number in range(100)]

    write(place.sink, events[:40])
    write(place.sink, events[40:])

    reader = place.readers[-1] if place.readers else place.open()
    assert place.values(reader, 100) == events


@those(*ALL)
def test_falsy_events_are_events(place: Place) -> None:
    write(place.sink, FALSY)

    read = place.values(place.readers[-1] if place.readers else place.open(), len(FALSY))

    assert read == FALSY
    assert list(map(type, read)) == list(map(type, FALSY))


@those(*KEEPING)
def test_what_was_not_committed_is_read_again(place: Place) -> None:
    write(place.sink, range(20))
    reader = place.open()
    take(reader, 5)
    reader.commit()
    take(reader, 10)

    assert sorted(place.values(place.open(), 15)) == list(range(5, 20))


@those(*KEEPING)
def test_a_reader_goes_on_where_the_last_commit_was(place: Place) -> None:
    write(place.sink, range(20))
    seen = []
    for number in (1, 6, 13):
        reader = place.open()
        seen += place.values(reader, number)
        reader.commit()

    assert sorted(seen) == list(range(20))


@those(*KEEPING)
def test_committing_twice_or_nothing_does_no_harm(place: Place) -> None:
    write(place.sink, range(3))
    reader = place.open()

    reader.commit()
    take(reader, 2)
    reader.commit()
    reader.commit()

    assert place.values(place.open(), 1) == [2]


@those(*FINITE)
def test_a_source_that_ends_says_so(place: Place) -> None:
    write(place.sink, range(3))
    place.close()
    reader = place.open()
    take(reader, 3)
    reader.commit()

    assert reader.read(10, 0.1) is None
    assert reader.read(10, 0.1) is None


@those(redis_stream, channel)
def test_a_source_that_does_not_end_says_that_nothing_came(place: Place) -> None:
    reader = place.readers[-1] if place.readers else place.open()

    assert reader.read(10, 0.05) == []


@those(*ALL)
def test_a_reader_and_a_writer_may_be_closed_twice(place: Place) -> None:
    writer = place.sink.open(threading.Event())
    writer.close()
    writer.close()
    write(place.sink, [1])
    reader = place.open()
    reader.close()

    reader.close()


@those(*KEEPING)
def test_no_more_is_read_than_asked_for(place: Place) -> None:
    write(place.sink, range(50))
    reader = place.open()

    assert all(len(reader.read(3, 0.1) or []) <= 3 for _ in range(10))
