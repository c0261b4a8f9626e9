"""Batches that fail too often."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.queues import drain, files, fill_in_batches
from turbo_queue import BatchNotFound, Queue


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue", max_failures=3)


def fail_at(queue: Queue, event: int) -> None:
    with pytest.raises(ZeroDivisionError, match="at event"), queue.consumer() as consumer:
        for one in consumer:
            if one == event:
                raise ZeroDivisionError(f"at event {event}")


def test_a_batch_that_fails_three_times_at_one_event_is_dead(queue: Queue) -> None:
    fill_in_batches(queue, [0, 1, 2], [3])
    for _ in range(3):
        fail_at(queue, 1)

    (dead,) = queue.dead
    assert (dead.reason, dead.failures, dead.failed_at, dead.events, dead.codec) == (
        "ZeroDivisionError: at event 1",
        3,
        1,
        2,
        "json",
    )
    assert [path.name for path in files(queue, "dead_")] == [dead.name]
    assert queue.dead.events(dead.name) == [1, 2]
    assert drain(queue) == [3]


def test_a_batch_that_moves_on_is_not_poisoned(queue: Queue) -> None:
    fill_in_batches(queue, range(10))
    for event in range(8):
        fail_at(queue, event)
        fail_at(queue, event)

    assert len(queue.dead) == 0
    assert drain(queue) == [7, 8, 9]


def test_the_failures_of_a_batch_can_be_seen(queue: Queue) -> None:
    fill_in_batches(queue, [1])
    fail_at(queue, 1)
    with queue.consumer() as consumer:
        batch = consumer.take()
        assert batch
        assert batch.failures == 1


def test_a_whole_batch_can_be_given_back_with_a_reason(queue: Queue) -> None:
    fill_in_batches(queue, [1, 2])
    for _ in range(3):
        with queue.consumer() as consumer:
            batch = consumer.take()
            assert batch
            batch.give_back("the database is away")

    (dead,) = queue.dead
    assert (dead.reason, dead.events) == ("the database is away", 2)


def test_a_dead_batch_is_put_back_as_if_new(queue: Queue) -> None:
    fill_in_batches(queue, [0, 1, 2])
    for _ in range(3):
        fail_at(queue, 1)
    (dead,) = queue.dead

    queue.dead.retry(dead.name)

    assert len(queue.dead) == 0
    fail_at(queue, 1)
    fail_at(queue, 1)
    assert drain(queue) == [1, 2]


@pytest.mark.parametrize("name", ["nonsense", "../dead", "dead_1795246802_x.db"])
def test_an_unknown_dead_batch_is_an_error(queue: Queue, name: str) -> None:
    fill_in_batches(queue, [1])

    with pytest.raises(BatchNotFound, match="dead list"):
        queue.dead.retry(name)
    with pytest.raises(BatchNotFound):
        queue.dead.events(name)


def test_a_batch_in_another_state_is_not_dead(queue: Queue) -> None:
    fill_in_batches(queue, [1])

    with pytest.raises(BatchNotFound):
        queue.dead.retry(files(queue)[0].name)


def test_a_consumer_may_bury_a_batch_at_once(queue: Queue) -> None:
    fill_in_batches(queue, [1, 2], [3])
    with queue.consumer() as consumer:
        batch = consumer.take()
        batch.bury("nobody can read it")

        assert not batch.is_held
        assert list(consumer.take()) == [3]

    (dead,) = queue.dead
    assert (dead.reason, dead.failures, dead.events) == ("nobody can read it", 1, 2)
    queue.dead.retry(dead.name)
    assert drain(queue) == [1, 2, 3]
