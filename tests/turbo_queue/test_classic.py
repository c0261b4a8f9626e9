"""The interface that turbo-queue began with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import turbo_queue
from fixtures.queues import files
from fixtures.waiting import eventually
from turbo_queue import Dequeue, Enqueue, Queue, SettingsError


@pytest.fixture
def enqueue(tmp_path: Path) -> Iterator[Enqueue]:
    enqueue = turbo_queue.Enqueue()
    enqueue.queue_name, enqueue.root_path = "queue", str(tmp_path)
    enqueue.max_events_per_file = 10
    enqueue.max_ready_files = 3
    yield enqueue
    enqueue.close()


@pytest.fixture
def dequeue(tmp_path: Path) -> Iterator[Dequeue]:
    dequeue = turbo_queue.Dequeue(1)
    dequeue.queue_name, dequeue.root_path = "queue", str(tmp_path)
    yield dequeue
    dequeue.close()


def test_both_spellings_are_the_same() -> None:
    assert turbo_queue.startup is turbo_queue.Startup
    assert turbo_queue.enqueue is turbo_queue.Enqueue
    assert turbo_queue.dequeue is turbo_queue.Dequeue


def test_falsy_events_are_given_and_none_means_empty(enqueue: Enqueue, dequeue: Dequeue) -> None:
    enqueue.start()
    for event in (0, "", {}, [], False):
        enqueue.add(event)
    enqueue.flush()
    events = dequeue.get()

    assert [next(events) for _ in range(6)] == [0, "", {}, [], False, None]
    enqueue.add("later")
    assert next(events) == "later"


def test_add_never_waits_and_the_state_says_when_to_stop(enqueue: Enqueue) -> None:
    enqueue.start()
    assert not enqueue.enqueue_active
    enqueue.update_enqueue_active_state()
    assert enqueue.enqueue_active

    for number in range(100):
        enqueue.add(number)
    enqueue.update_enqueue_active_state()

    assert not enqueue.enqueue_active


def test_the_state_becomes_active_again_when_batches_are_taken(
    enqueue: Enqueue, dequeue: Dequeue
) -> None:
    enqueue.start()
    for number in range(100):
        enqueue.add(number)
    enqueue.flush()
    events = dequeue.get()
    while next(events) is not None:
        pass
    enqueue.update_enqueue_active_state()

    assert enqueue.enqueue_active


def test_a_slow_batch_is_made_ready_without_another_add(
    enqueue: Enqueue, dequeue: Dequeue, tmp_path: Path
) -> None:
    enqueue.max_batch_age = 0.2
    enqueue.start()
    enqueue.add("first")
    enqueue.add("second")

    eventually(lambda: list(Queue(tmp_path / "queue").peek()) == ["first", "second"], timeout_s=5)


def taken(events: Iterator[Any], number: int) -> list[Any]:
    return [next(events) for _ in range(number)]


def test_without_auto_cleanup_the_caller_decides(
    enqueue: Enqueue, dequeue: Dequeue, tmp_path: Path
) -> None:
    enqueue.start()
    enqueue.add("a")
    enqueue.flush()
    enqueue.add("b")
    enqueue.flush()
    queue = Queue(tmp_path / "queue")
    dequeue.auto_cleanup = False
    events = dequeue.get()

    assert taken(events, 3) == ["a", None, None]
    dequeue.roll_back()
    assert taken(events, 2) == ["a", None]
    dequeue.clean_up()
    assert taken(events, 2) == ["b", None]
    dequeue.clean_up()
    dequeue.clean_up()
    assert files(queue, "ready_") == files(queue, "chosen_") == []


def test_roll_back_with_auto_cleanup_begins_at_the_last_event(
    enqueue: Enqueue, dequeue: Dequeue
) -> None:
    enqueue.start()
    for event in "abc":
        enqueue.add(event)
    enqueue.flush()
    events = dequeue.get()

    assert taken(events, 2) == ["a", "b"]
    dequeue.roll_back()
    assert taken(events, 3) == ["b", "c", None]


def test_none_comes_after_a_wait_that_costs_no_cpu(dequeue: Dequeue) -> None:
    events = dequeue.get()
    before = time.process_time(), time.monotonic()

    assert next(events) is None

    assert time.monotonic() - before[1] > 0.3
    assert time.process_time() - before[0] < 0.1


@pytest.mark.parametrize("name", ["../x", "a/b", "a\0b", "", ".hidden", 5])
def test_a_wrong_queue_name_is_refused(enqueue: Enqueue, tmp_path: Path, name: Any) -> None:
    enqueue.queue_name = name

    with pytest.raises(SettingsError, match="queue_name is"):
        enqueue.start()
    assert list(tmp_path.iterdir()) == []


def test_adding_before_start_is_an_error_that_says_so(enqueue: Enqueue) -> None:
    with pytest.raises(RuntimeError, match=r"call start\(\)"):
        enqueue.add(1)
