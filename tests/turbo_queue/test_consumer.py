"""Taking events, one by one and as whole batches."""

from __future__ import annotations

import pickle
import queue as standard_queue
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fixtures.queues import drain, files, fill, fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import BatchSettled, Queue, QueueClosed, QueueEmpty, SettingsError


def test_iteration_waits_for_events_and_ends_with_the_queue(queue: Queue) -> None:
    got: list[Any] = []

    def consume() -> None:
        with queue.consumer() as consumer:
            got.extend(consumer)

    thread = threading.Thread(target=consume)
    thread.start()
    fill(queue, [1, 2])
    eventually(lambda: got == [1, 2])
    fill(queue, [3])
    eventually(lambda: got == [1, 2, 3])
    queue.close()
    thread.join(10)

    assert not thread.is_alive()


def test_closing_ends_all_consumers_that_wait(queue: Queue) -> None:
    def consume() -> None:
        with queue.consumer() as consumer:
            assert list(consumer) == []

    threads = [threading.Thread(target=consume) for _ in range(5)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(queue.stats().consumers) == 5)
    queue.close()

    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_closed_queue_ends_only_when_nobody_holds_a_batch(queue: Queue) -> None:
    fill(queue, [1])
    ended = threading.Event()

    def consume() -> None:
        with queue.consumer() as consumer:
            events.extend(consumer)
        ended.set()

    events: list[Any] = []
    with queue.consumer() as holder:
        batch = holder.take()
        assert batch
        queue.close()
        thread = threading.Thread(target=consume)
        thread.start()
        eventually(lambda: len(queue.stats().consumers) == 2)
        assert not ended.is_set()

        batch.give_back()
        thread.join(10)

    assert ended.is_set()
    assert events == [1]


def test_get_gives_one_event_and_finishes_the_one_before(queue: Queue) -> None:
    fill_in_batches(queue, ["a", "b"], ["c"])
    with queue.consumer() as consumer:
        assert [consumer.get() for _ in range(3)] == ["a", "b", "c"]
        assert len(files(queue, "chosen_")) == 1
        with pytest.raises(standard_queue.Empty):
            consumer.get(block=False)
        assert files(queue) == []
        with pytest.raises(QueueEmpty, match="no event is ready in"):
            consumer.get(timeout=0.05)
        queue.close()
        with pytest.raises(QueueClosed, match="closed and empty"):
            consumer.get()


def test_an_event_counts_as_finished_at_the_end_of_the_block(queue: Queue) -> None:
    fill(queue, range(10))
    with queue.consumer() as consumer:
        for event in consumer:
            if event == 3:
                break

    assert drain(queue) == [4, 5, 6, 7, 8, 9]


def test_iteration_can_stop_and_go_on(queue: Queue) -> None:
    fill(queue, range(300))
    with queue.consumer(stop_when_empty=True) as consumer:
        first = [event for event, _ in zip(consumer, range(150), strict=False)]
        rest = list(consumer)

    # zip() took one event more than it gave.
    assert [*first, 150, *rest] == list(range(300))


def test_an_error_in_the_block_gives_the_event_back(queue: Queue) -> None:
    fill(queue, range(10))
    with pytest.raises(RuntimeError), queue.consumer() as consumer:
        for event in consumer:
            if event == 3:
                raise RuntimeError

    assert drain(queue) == [3, 4, 5, 6, 7, 8, 9]


def test_ctrl_c_gives_the_event_back_without_calling_it_a_failure(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_failures=1)
    fill(queue, range(3))
    with pytest.raises(KeyboardInterrupt), queue.consumer() as consumer:
        for _ in consumer:
            raise KeyboardInterrupt

    assert len(queue.dead) == 0
    assert drain(queue) == [0, 1, 2]


def test_giving_back_ends_the_batch_for_this_consumer(queue: Queue) -> None:
    fill_in_batches(queue, [1, 2, 3], [4])
    seen = []
    with queue.consumer(stop_when_empty=True) as consumer:
        for event in consumer:
            seen.append(event)
            if seen == [1, 2]:
                consumer.give_back()

    assert seen == [1, 2, 2, 3, 4]


def test_acknowledging_notes_what_is_finished_now(queue: Queue) -> None:
    fill(queue, range(10))
    with queue.consumer() as consumer:
        for event in consumer:
            if event == 4:
                consumer.acknowledge()
                break
        assert list(queue.peek(state="chosen")) == [5, 6, 7, 8, 9]


def test_a_batch_is_acknowledged_as_a_whole(queue: Queue) -> None:
    fill(queue, range(250))
    with queue.consumer(stop_when_empty=True) as consumer:
        for batch in consumer.batches():
            with batch:
                assert len(batch) == len(list(batch))
                assert len(files(queue, "chosen_")) == 1
            assert files(queue, "chosen_") == []

    assert files(queue) == []


def test_reading_a_batch_finishes_nothing(queue: Queue) -> None:
    fill(queue, range(250))
    with queue.consumer() as consumer:
        batch = consumer.take()
        assert batch
        held = list(batch)

    assert drain(queue)[: len(held)] == held


def test_a_batch_that_fails_is_given_back_as_a_whole(queue: Queue) -> None:
    fill_in_batches(queue, range(10))
    with queue.consumer() as consumer, pytest.raises(RuntimeError):
        for batch in consumer.batches():
            with batch:
                list(batch)
                raise RuntimeError

    assert drain(queue) == list(range(10))


def test_a_checkpoint_inside_a_batch_survives_giving_it_back(queue: Queue) -> None:
    fill_in_batches(queue, range(90))
    with queue.consumer() as consumer:
        batch = consumer.take()
        assert batch
        batch.checkpoint(50)
        assert batch.done == 50
        for wrong in (49, 91):
            with pytest.raises(ValueError, match="not between 50 and 90"):
                batch.checkpoint(wrong)
        batch.give_back()

    assert drain(queue) == list(range(50, 90))


def test_a_batch_that_is_given_back_with_nothing_left_is_gone(queue: Queue) -> None:
    fill_in_batches(queue, [1], [2])
    with queue.consumer(stop_when_empty=True) as consumer:
        batch = consumer.take()
        assert batch is not None
        batch.checkpoint(1)
        batch.give_back()

        assert list(consumer) == [2]
    assert files(queue) == []


def test_a_batch_is_settled_once(queue: Queue) -> None:
    fill(queue, [1])
    with queue.consumer() as consumer:
        batch = consumer.take()
        assert batch
        batch.acknowledge()
        for settle in (batch.acknowledge, batch.give_back, lambda: batch.checkpoint(1)):
            with pytest.raises((BatchSettled, ValueError)):
                settle()


def test_take_gives_none_in_time(queue: Queue) -> None:
    with queue.consumer() as consumer:
        before = time.monotonic()
        assert consumer.take(timeout=0) is None
        assert consumer.take(timeout=0.1) is None
        assert 0.1 <= time.monotonic() - before < 5


def test_each_thread_has_a_batch_of_its_own(queue: Queue) -> None:
    fill_in_batches(queue, *[range(start, start + 50) for start in range(0, 1000, 50)])
    lock = threading.Lock()
    seen: list[list[int]] = []

    def consume() -> None:
        mine = list(consumer)
        with lock:
            seen.append(mine)

    with queue.consumer(stop_when_empty=True) as consumer:
        threads = [threading.Thread(target=consume) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(event for mine in seen for event in mine) == list(range(1000))
    assert all(mine == sorted(mine) for mine in seen)


def test_two_consumers_share_the_batches(queue: Queue) -> None:
    fill_in_batches(queue, [1], [2])
    with queue.consumer() as one, queue.consumer() as other:
        assert {one.get(), other.get()} == {1, 2}


def test_a_closed_consumer_says_so(queue: Queue) -> None:
    consumer = queue.consumer()
    consumer.close()
    consumer.close()

    with pytest.raises(QueueClosed, match="this consumer was closed"):
        next(iter(consumer))


def test_a_consumer_cannot_be_pickled(queue: Queue) -> None:
    with queue.consumer() as consumer, pytest.raises(TypeError, match="send its Queue"):
        pickle.dumps(consumer)


def test_a_consumer_reads_batches_of_any_codec_but_pickle(tmp_path: Path) -> None:
    path = tmp_path / "queue"
    fill(Queue(path, codec="raw"), [b"raw"])
    fill(Queue(path, codec="msgpack"), [{"m": b"p"}])
    fill(Queue(path, codec="json"), [["json"]])

    assert drain(Queue(path)) == [b"raw", {"m": b"p"}, ["json"]]

    fill(Queue(path, codec="pickle"), [1 + 2j])
    with pytest.raises(SettingsError, match="codec='pickle'"):
        drain(Queue(path))
    assert drain(Queue(path, codec="pickle")) == [1 + 2j]


def test_ten_thousand_ready_files_come_out_in_order(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_events_per_file=1)
    fill(queue, range(10_000))

    assert drain(queue) == list(range(10_000))


def test_peek_takes_nothing(queue: Queue) -> None:
    fill(queue, range(250))

    assert list(queue.peek(3)) == [0, 1, 2]
    assert list(queue.peek()) == list(range(250))
    assert drain(queue) == list(range(250))
