"""Iterables as a source."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator

import pytest

from fixtures.connecting import Notebook, read
from turbo_queue import Queue
from turbo_queue.connectors import IterableSource, Record, fill
from turbo_queue.errors import BadEvent, SettingsError


def numbers() -> Iterator[int]:
    yield from range(10)


@pytest.mark.parametrize("events", [range(10), list(range(10)), numbers, numbers()])
def test_any_iterable_and_any_function_that_gives_one(events: object, queue: Queue) -> None:
    assert fill(queue, IterableSource(events)) == 10

    assert list(queue.peek()) == list(range(10))


def test_an_event_that_the_queue_cannot_carry_ends_filling_it(queue: Queue) -> None:
    with pytest.raises(BadEvent, match="complex"):
        fill(queue, IterableSource([1, 2j, 3]))

    assert list(queue.peek()) == [1]


def test_records_stay_as_they_are_and_other_events_get_a_number() -> None:
    record = Record("a", key=b"k", origin="elsewhere")

    records = read(IterableSource([record, "b"]), Notebook())

    assert records == [record, Record("b", origin="event 2")]


def test_a_function_is_called_where_it_is_read() -> None:
    source = pickle.loads(pickle.dumps(IterableSource(numbers)))

    assert len(read(source, Notebook())) == 10


def test_what_was_committed_is_left_out_the_next_time() -> None:
    intake = Notebook()

    seen = [record.value for _ in range(4) for record in read(IterableSource(numbers), intake, 3)]

    assert seen == list(range(10))


def test_events_before_a_failure_are_read_once() -> None:
    intake = Notebook()
    tries = []

    def failing() -> Iterator[int]:
        yield from range(3)
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("later")
        yield 3

    source, seen = IterableSource(failing), []
    for _ in range(2):
        reader = source.open(intake)
        with pytest.raises(ConnectionError, match="later"):
            while True:
                seen += reader.read(5, 0.1) or []
        reader.close()

    seen += read(source, intake)
    assert [record.value for record in seen] == [0, 1, 2, 3]


def test_a_failing_source_is_read_on_by_fill(queue: Queue) -> None:
    tries = []

    def failing() -> Iterator[int]:
        yield from range(100)
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("later")

    assert fill(queue, IterableSource(failing)) == 100


def test_a_generator_is_not_read_a_second_time() -> None:
    source = IterableSource(numbers())
    read(source, Notebook())

    with pytest.raises(SettingsError, match="only once"):
        source.open(Notebook())


def test_an_iterable_that_is_slow_gives_what_it_has() -> None:
    goes_on = threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        goes_on.wait(0.2)
        yield 2
        yield 3

    reader = IterableSource(slow).open(Notebook())

    first = reader.read(10, 0.1)

    assert first is not None
    assert 1 <= len(first) < 3
    reader.close()


def test_a_generator_that_is_not_read_to_its_end_is_closed() -> None:
    closed = []

    def events() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    read(IterableSource(events), Notebook(), 3)

    assert closed


@pytest.mark.parametrize("events", ["text", b"bytes", 3, None])
def test_what_gives_no_events_is_refused(events: object) -> None:
    with pytest.raises(SettingsError, match="must be an iterable"):
        IterableSource(events)  # type: ignore[arg-type]


def test_another_sources_place_and_fewer_events_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    intake = Notebook()
    intake.position = {"path": "a"}
    assert len(read(IterableSource(numbers), intake)) == 10
    intake.position = 11
    assert read(IterableSource(numbers), intake) == []

    assert [record.event for record in caplog.records] == [
        "iterable.started_over",
        "iterable.shorter",
    ]
