"""Putting events."""

from __future__ import annotations

import itertools
import pickle
import queue as standard_queue
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.queues import drain, files, fill, fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import (
    BadEvent,
    EventTooLarge,
    Queue,
    QueueClosed,
    QueueFull,
    SettingsError,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

MSGPACK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("codec", "events"),
    [
        ("json", st.lists(JSON, max_size=250)),
        ("msgpack", st.lists(MSGPACK, max_size=250)),
        ("raw", st.lists(st.binary() | st.text(), max_size=250)),
        ("pickle", st.lists(st.binary() | st.complex_numbers(allow_nan=False), max_size=20)),
    ],
)
def test_what_goes_in_comes_out_in_order(tmp_path: Path, codec: str, events: Any) -> None:
    numbers = itertools.count()

    @given(st.data(), st.integers(1, 120))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def check(data: st.DataObject, max_events_per_file: int) -> None:
        queue = Queue(
            tmp_path / str(next(numbers)), codec=codec, max_events_per_file=max_events_per_file
        )
        many, singly = data.draw(events), data.draw(events)
        with queue.producer() as producer:
            producer.put_many(many)
            for event in singly:
                producer.put(event)

        assert drain(queue) == many + singly
        assert files(queue) == []

    check()


@pytest.mark.parametrize("event", [0, "", {}, [], None, False, 0.0])
def test_falsy_events_are_events(queue: Queue, event: object) -> None:
    fill(queue, [event, 1, event])

    assert drain(queue) == [event, 1, event]


def test_raw_text_and_bytes_keep_their_kind_also_with_line_feeds(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", codec="raw")
    events = [b"a", "a", b"a\nb", "a\nb", "", b"", "\n", b"\n", "é", b"\xff\x00"]

    fill(queue, events)

    assert [(type(event), event) for event in drain(queue)] == [
        (type(event), event) for event in events
    ]


@pytest.mark.parametrize(
    ("codec", "event"),
    [
        ("json", b"bytes"),
        ("json", object()),
        ("json", "\ud800"),
        ("raw", {"a": 1}),
        ("raw", "\ud800"),
        ("msgpack", object()),
        ("pickle", lambda: None),
    ],
)
def test_an_event_that_the_codec_cannot_carry_is_refused(
    tmp_path: Path, codec: str, event: object
) -> None:
    queue = Queue(tmp_path / "queue", codec=codec)
    with queue.producer() as producer:
        producer.put("before" if codec != "pickle" else 1)
        with pytest.raises(BadEvent, match=f"codec '{codec}' cannot carry this event of type"):
            producer.put(event)
        with pytest.raises(BadEvent) as refused:
            producer.put_many(["one", "two", event, "three"])

    assert refused.value.events_put == 2
    assert drain(queue)[1:] == ["one", "two"]


def test_an_event_over_the_limit_is_refused(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", codec="raw", max_event_bytes=1000)
    with queue.producer() as producer:
        producer.put(b"x" * 1000)
        with pytest.raises(EventTooLarge, match=r"1,001 bytes is over the limit of 1,000"):
            producer.put(b"x" * 1001)
        with pytest.raises(EventTooLarge) as refused:
            producer.put_many([b"y", b"x" * 1001, b"z"])

    assert refused.value.events_put == 1
    assert drain(queue) == [b"x" * 1000, b"y"]


def test_an_event_of_100_mib_goes_through(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue")
    event = {"blob": "x" * (100 * 1024 * 1024)}

    fill(queue, [1, event, 2])

    assert drain(queue) == [1, event, 2]


def test_a_batch_is_full_by_events(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_events_per_file=10)
    with queue.producer() as producer:
        producer.put(0)  # Made ready at once, as nobody has put anything yet.
        for number in range(1, 31):
            producer.put(number)

        assert len(files(queue, "ready_")) == 4


def test_a_batch_is_full_by_bytes(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_batch_bytes=10_000, codec="raw")

    fill(queue, [b"x" * 1000] * 100)

    assert all(path.stat().st_size < 25_000 for path in files(queue))
    assert drain(queue) == [b"x" * 1000] * 100


def test_flush_makes_ready_what_was_put(queue: Queue) -> None:
    with queue.producer() as producer:
        producer.put(1)
        producer.put(2)
        producer.flush()
        producer.flush()

        assert drain(queue) == [1, 2]


def test_a_slow_batch_is_made_ready_by_its_age(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_batch_age=0.3)
    with queue.producer() as producer:
        producer.put(1)
        producer.put(2)  # Nobody takes the first: this one waits for company.
        assert list(queue.peek()) == [1]

        eventually(lambda: list(queue.peek()) == [1, 2], timeout_s=5)


def test_names_sort_in_the_order_of_putting(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_events_per_file=1)

    fill(queue, range(300))

    assert drain(queue) == list(range(300))


def test_the_endless_generator_can_be_put_until_there_is_no_room(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_ready_files=3, max_events_per_file=10)
    with queue.producer() as producer:
        with pytest.raises(QueueFull) as full:
            producer.put_many(itertools.count(), timeout=0)

        producer.flush()
        assert drain(queue) == list(range(full.value.events_put))


def test_put_raises_while_there_is_no_room(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_ready_files=2, max_events_per_file=1)
    with queue.producer() as producer:
        producer.put(1)
        producer.put(2)

        for arguments in ({"block": False}, {"timeout": 0}, {"timeout": 0.05}):
            with pytest.raises(standard_queue.Full, match="2 or more ready batches"):
                producer.put(3, **arguments)
        assert list(queue.peek()) == [1, 2]


def test_put_waits_for_room_and_goes_on_at_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_ready_files=1, max_events_per_file=1)
    with queue.producer() as producer, queue.consumer() as consumer:
        producer.put(1)
        waiting = threading.Thread(target=producer.put, args=(2,))
        waiting.start()

        assert consumer.get(timeout=10) == 1
        assert consumer.get(timeout=10) == 2
        waiting.join()


def test_several_threads_put_into_one_producer(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_events_per_file=37)
    with queue.producer() as producer:

        def put(start: int) -> None:
            for number in range(start, start + 500):
                producer.put(number)
            producer.put_many(range(start + 500, start + 1000))

        threads = [threading.Thread(target=put, args=(n * 1000,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    events = drain(queue)
    assert sorted(events) == list(range(8000))
    for thread_start in range(0, 8000, 1000):
        mine = [event for event in events if thread_start <= event < thread_start + 1000]
        assert mine == sorted(mine)


def test_a_closed_producer_says_so(queue: Queue) -> None:
    producer = queue.producer()
    producer.close()
    producer.close()

    with pytest.raises(QueueClosed, match="this producer was closed"):
        producer.put(1)


def test_a_closed_queue_takes_no_events_but_those_that_were_put(queue: Queue) -> None:
    with queue.producer() as producer:
        producer.put(1)
        producer.put(2)
        queue.close()
        producer.flush()
        with pytest.raises(QueueClosed, match=r"was closed; queue.reopen\(\) opens it"):
            producer.put(3)
        queue.reopen()
        producer.put(4)

    assert drain(queue) == [1, 2, 4]


def test_a_producer_cannot_be_pickled_but_its_queue_can(queue: Queue) -> None:
    with queue.producer() as producer, pytest.raises(TypeError, match="send its Queue"):
        pickle.dumps(producer)
    fill(queue, [1])

    assert drain(pickle.loads(pickle.dumps(queue))) == [1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_events_per_file": 0},
        {"max_events_per_file": True},
        {"max_events_per_file": "many"},
        {"max_batch_age": 0},
        {"max_batch_age": "soon"},
        {"max_ready_files": 0},
        {"max_event_bytes": 1 << 40},
        {"fsync": "yes"},
        {"codec": "yaml"},
        {"codec": 5},
        {"checkpoint": 0},
        {"max_failures": 0},
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Queue(tmp_path / "queue", **wrong)


def test_settings_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURBO_QUEUE_MAX_BATCH_AGE", "2.5")
    monkeypatch.setenv("TURBO_QUEUE_FSYNC", "true")
    monkeypatch.setenv("TURBO_QUEUE_CHECKPOINT", "7")

    settings = Queue(tmp_path / "queue", checkpoint=9).settings

    assert (settings.max_batch_age, settings.fsync, settings.checkpoint) == (2.5, True, 9)


def test_a_wrong_setting_of_the_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURBO_QUEUE_MAX_EVENTS_PER_FILE", "a few")

    with pytest.raises(SettingsError, match="max_events_per_file is 'a few'"):
        Queue(tmp_path / "queue")


def test_what_is_put_together_becomes_one_batch(queue: Queue) -> None:
    fill_in_batches(queue, [1, 2], [3], [4, 5, 6])

    with queue.consumer(stop_when_empty=True) as consumer:
        taken = []
        for batch in consumer.batches():
            with batch:
                taken.append(list(batch))
    assert taken == [[1, 2], [3], [4, 5, 6]]
