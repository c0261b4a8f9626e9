"""What happens between two steps: threads, forks, signals and failures at the worst moment."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fixtures.forks import exit_code, fork
from fixtures.processes import Processes
from fixtures.queues import drain, files, fill, fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import FolderFailed, Queue, QueueClosed, QueueEmpty
from turbo_queue.locks import lock, open_to_lock, release


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """As between a producer's rename and its last step: a ready batch whose lock is held."""
    descriptor = open_to_lock(path, os.O_RDWR)
    assert lock(descriptor)
    try:
        yield
    finally:
        release(descriptor)


def test_a_ready_batch_that_is_locked_costs_neither_time_limit_nor_cpu(queue: Queue) -> None:
    fill(queue, [1])
    with queue.consumer() as consumer, locked(files(queue)[0]):
        before = time.monotonic(), time.process_time()
        with pytest.raises(QueueEmpty):
            consumer.get(timeout=0.5)
        assert time.monotonic() - before[0] < 2
        assert time.process_time() - before[1] < 0.25


def test_forks_beside_a_busy_producer_keep_no_lock(queue: Queue) -> None:
    """100 children are made while another thread publishes, and outlive the producer."""
    children = []
    stopped = threading.Event()
    with queue.producer() as producer:

        def publish() -> None:
            while not stopped.is_set():
                producer.put(1)
                producer.flush()

        publishing = threading.Thread(target=publish)
        publishing.start()
        children.extend(fork(signal.pause) for _ in range(100))
        stopped.set()
        publishing.join()
    try:
        put = queue.stats().traffic.events_in
        assert len(drain(queue)) == put
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_recovery_beside_busy_producers_and_consumers_disturbs_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue(tmp_path / "queue", max_failures=1000)
    stopped = threading.Event()
    got: list[int] = []

    def recover() -> None:
        while not stopped.is_set():
            assert not queue.recover()

    def consume() -> None:
        with queue.consumer() as consumer:
            for batch in consumer.batches():
                if random.random() < 0.3:
                    batch.give_back(random.choice([None, "on purpose"]))
                else:
                    got.extend(batch)
                    batch.acknowledge()

    threads = [threading.Thread(target=target) for target in (recover, recover, consume, consume)]
    for thread in threads:
        thread.start()
    with queue.producer() as producer:
        for number in range(3000):
            producer.put(number)
            producer.flush()
    queue.close()
    for thread in threads[2:]:
        thread.join(30)
    stopped.set()
    for thread in threads[:2]:
        thread.join()

    assert sorted(got) == list(range(3000))
    assert caplog.records == []


@contextmanager
def no_writes() -> Iterator[None]:
    """Every write to a file of this process fails, as on a disk with errors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_fails_loses_nothing(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", checkpoint=10)
    fill_in_batches(queue, range(100))
    got = []
    with queue.consumer(stop_when_empty=True) as consumer:
        got += [consumer.get() for _ in range(20)]
        with no_writes(), pytest.raises(FolderFailed) as failed:
            for _ in range(20):
                got.append(consumer.get())
        got += list(consumer)

    assert failed.value.errno == errno.EFBIG
    assert got == list(range(100))


def test_figures_that_cannot_be_noted_stop_nobody(queue: Queue) -> None:
    fill_in_batches(queue, [1], [2], [3])
    with queue.consumer(stop_when_empty=True) as consumer, no_writes():
        assert list(consumer) == [1, 2, 3]


def test_closing_while_threads_iterate_is_quiet_and_loses_nothing(queue: Queue) -> None:
    for round_ in range(20):
        fill(queue, range(5000))
        consumer = queue.consumer(stop_when_empty=True)
        got: list[list[int]] = []
        errors: list[BaseException] = []

        def consume(consumer: object = consumer, got: list = got, errors: list = errors) -> None:
            mine: list[int] = []
            got.append(mine)
            try:
                mine.extend(consumer)
            except QueueClosed:
                pass
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=consume) for _ in range(4)]
        for thread in threads:
            thread.start()
        eventually(lambda got=got, least=round_ * 200: sum(map(len, list(got))) > least)
        consumer.close()
        for thread in threads:
            thread.join(10)

        assert errors == []
        assert set(drain(queue)).union(*got) == set(range(5000))
        assert files(queue) == []


def test_a_thread_that_ends_in_a_batch_gives_it_back(queue: Queue) -> None:
    fill_in_batches(queue, range(50))
    with queue.consumer() as consumer:
        thread = threading.Thread(target=consumer.get)
        thread.start()
        thread.join()

        assert consumer.get(timeout=5) == 0


def test_an_iterator_that_crosses_a_fork_gives_nothing_of_the_parents_batch(queue: Queue) -> None:
    fill_in_batches(queue, [1, 2, 3], [4])
    with queue.consumer(stop_when_empty=True) as consumer:
        events = iter(consumer)
        assert next(events) == 1

        def child() -> None:
            assert list(events) == [4]

        assert exit_code(fork(child)) == 0
        assert list(events) == [2, 3]


def test_sigterm_in_the_middle_of_the_work_puts_everything_once(
    queue: Queue, processes: Processes, seed: int
) -> None:
    """20 busy producers are ended at random moments; what they had put comes, once."""
    moments = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(20):
        process = processes.python(
            """
            import itertools, os, sys, turbo_queue
            queue = turbo_queue.Queue(sys.argv[1], max_events_per_file=50)
            with queue.producer() as producer:
                print("at work")
                for number in itertools.count():
                    producer.put(number)
            """,
            str(queue.path),
        )
        process.wait_for("at work")
        end = time.monotonic() + moments.random() / 20
        eventually(lambda end=end: time.monotonic() > end)
        process.signal(signal.SIGTERM)
        assert process.wait() == 143, process.output

        events = drain(queue)
        assert sorted(set(events)) == list(range(len(set(events))))
        assert len(events) - len(set(events)) in {
            0,
            50,
        }  # Between two bytecodes, a batch may twice.


def test_a_foreign_file_with_the_name_that_a_batch_should_get_is_kept(queue: Queue) -> None:
    fill_in_batches(queue, [1], [2])
    first = files(queue)[0]
    foreign = first.with_name(first.name.replace("ready_", "chosen_"))
    foreign.write_text("somebody's")

    assert drain(queue) == [2]
    assert {path.name for path in (queue.path / "bad").iterdir()} >= {first.name}
    kept = [path.read_bytes() for path in queue.path.rglob("*.db*") if path.is_file()]
    assert b"somebody's" in kept


def test_files_of_no_known_name_are_left_alone(queue: Queue) -> None:
    fill(queue, [1])
    for name in (".new_precious", ".alive/notes.txt", ".hidden"):
        (queue.path / name).write_text("somebody's")
    os.mkfifo(queue.path / ".alive" / f"producer_1_{'0' * 32}")
    os.mkfifo(queue.path / files(queue)[0].name.replace("ready_", "dead_"))

    queue.recover()

    assert queue.stats().traffic.events_in == 1
    assert drain(queue) == [1]
    for name in (".new_precious", ".alive/notes.txt", ".hidden"):
        assert (queue.path / name).read_text() == "somebody's"


@pytest.mark.parametrize("state", ["ready", "chosen", "loading"])
def test_a_file_larger_than_any_batch_is_set_aside(queue: Queue, state: str) -> None:
    fill_in_batches(queue, ["good"])
    huge = queue.path / f"{state}_1795246802_01a1fd0c-474b-7000-9dc1-1d57d656d301.db"
    huge.write_bytes(b"SQLite format 3\0")
    os.truncate(huge, 2**40)

    queue.recover()
    assert drain(queue) == ["good"]
    assert queue.stats().bad_files == 1


def test_a_name_as_long_as_can_be_is_set_aside(queue: Queue) -> None:
    fill_in_batches(queue, ["good"])
    (queue.path / ("ready_" + "x" * 249)).write_text("?")

    assert drain(queue) == ["good"]
    assert queue.stats().bad_files == 1


def test_foreign_files_are_set_aside_also_when_bad_was_removed(queue: Queue) -> None:
    fill_in_batches(queue, ["good"])
    (queue.path / "ready_x").write_text("?")
    with queue.consumer(stop_when_empty=True) as consumer:
        (queue.path / "bad").rmdir()
        assert list(consumer) == ["good"]

    assert queue.stats().bad_files == 1


def test_a_reason_that_is_no_text_is_kept_as_well_as_it_goes(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", max_failures=1)
    fill(queue, [1])
    with pytest.raises(ValueError, match="\ud800"), queue.consumer() as consumer:
        for _ in consumer:
            raise ValueError("\ud800" + "x" * 100_000)

    (dead,) = queue.dead
    assert dead.reason.startswith("ValueError: ?xxx")
    assert len(dead.reason) <= 10_000


def test_looking_at_a_queue_hides_no_abandoned_batch(queue: Queue) -> None:
    fill(queue, [1])
    assert exit_code(fork(lambda: queue.consumer().get())) == 0
    stopped = threading.Event()

    def look() -> None:
        while not stopped.is_set():
            with suppress(FolderFailed):
                queue.stats()

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        assert drain(queue) == [1]
    finally:
        stopped.set()
        for thread in looking:
            thread.join()


def test_traffic_never_goes_down(queue: Queue) -> None:
    fill(queue, [])
    stopped = threading.Event()

    def come_and_go() -> None:
        while not stopped.is_set():
            fill(queue, [1])
            drain(queue)

    working = threading.Thread(target=come_and_go)
    working.start()
    try:
        seen = [queue.stats().traffic.events_in for _ in range(300)]
    finally:
        stopped.set()
        working.join()
    assert seen == sorted(seen)


def test_polling_a_closed_queue_costs_no_cpu(queue: Queue) -> None:
    with queue.consumer() as consumer:
        queue.close()
        events = consumer.poll(timeout=0.2)
        before = time.monotonic()

        assert [next(events) for _ in range(5)] == [None] * 5
        assert time.monotonic() - before >= 1.0
