"""F33, F35: whose a batch is, and what becomes of it when its owner ends, stops, forks or dies."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest

from fixtures.processes import Process, Processes
from fixtures.queues import drain, files, fill, fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import Queue

ENDS = {
    "the end of the program": "",
    "sys.exit": "sys.exit(0)",
    "an exception": "raise RuntimeError('on purpose')",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_but_a_kill_flushes(queue: Queue, processes: Processes, end: str) -> None:
    program = f"""
import os, signal, sys, time, turbo_queue
producer = turbo_queue.Queue(sys.argv[1], max_batch_age=3600).producer()
for number in range(1500):
    producer.put(number)
{ENDS[end]}
"""
    process = processes.python(program, str(queue.path))
    process.wait()

    assert drain(queue) == list(range(1500))


def test_sigterm_keeps_its_meaning_for_a_program_with_a_handler_of_its_own(
    queue: Queue, processes: Processes
) -> None:
    process = processes.python(
        """
        import os, signal, sys, turbo_queue
        signal.signal(signal.SIGTERM, lambda *_: print("mine"))
        with turbo_queue.Queue(sys.argv[1]).producer() as producer:
            producer.put(1)
            os.kill(os.getpid(), signal.SIGTERM)
            producer.put(2)
        """,
        str(queue.path),
    )

    assert process.wait() == 0
    assert "mine" in process.output
    assert drain(queue) == [1, 2]


def test_the_handler_of_sigterm_goes_with_the_last_producer(queue: Queue) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with queue.producer(), queue.producer():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_few_events_are_delivered_within_their_age_without_another_put(
    queue: Queue, processes: Processes
) -> None:
    process = processes.python(
        """
        import sys, time, turbo_queue
        producer = turbo_queue.Queue(sys.argv[1], max_batch_age=1.0).producer()
        for number in range(10):
            producer.put(number)
        print("put")
        time.sleep(60)
        """,
        str(queue.path),
    )
    process.wait_for("put")
    put_at = time.monotonic()

    eventually(lambda: list(queue.peek()) == list(range(10)), timeout_s=10)
    assert time.monotonic() - put_at < 2


HOLDER = """
import os, sys, time, turbo_queue
consumer = turbo_queue.Queue(sys.argv[1]).consumer()
print("holds", consumer.get(timeout=20))
"""


def holder(processes: Processes, queue: Queue, then: str = "time.sleep(600)") -> Process:
    """A process that has a batch under way."""
    process = processes.python(HOLDER + then, str(queue.path))
    process.wait_for("holds")
    return process


def test_a_stopped_owner_keeps_its_batch(queue: Queue, processes: Processes) -> None:
    fill_in_batches(queue, ["stopped's"], ["other"])
    owner = holder(processes, queue)
    owner.signal(signal.SIGSTOP)
    stopped_at = time.monotonic()

    with queue.consumer() as consumer:
        assert consumer.get(timeout=5) == "other"
        while time.monotonic() - stopped_at < 5:
            queue.recover()
            assert consumer.take(timeout=0.2) is None
    assert [path.name.split("_")[0] for path in files(queue)] == ["chosen"]

    owner.signal(signal.SIGCONT)
    owner.kill()
    owner.wait()
    with queue.consumer() as consumer:
        assert consumer.get(timeout=5) == "stopped's"


def test_a_dead_owners_batch_is_taken_over_within_a_second(
    tmp_path: Path, processes: Processes
) -> None:
    """In each of five queues four owners die, one after another, and a consumer waits."""

    def take_over(folder: Path) -> list[float]:
        queue, took = Queue(folder), []
        with queue.consumer() as consumer:
            for number in range(4):
                fill(queue, [number])
                owner = holder(processes, queue)
                owner.kill()
                owner.wait()
                died_at = time.monotonic()
                assert consumer.get(timeout=5) == number
                took.append(time.monotonic() - died_at)
        return took

    with ThreadPoolExecutor(5) as pool:
        took = list(chain.from_iterable(pool.map(take_over, [tmp_path / name for name in "abcde"])))

    assert len(took) == 20
    assert max(took) < 1


def test_a_forked_child_that_outlives_the_owner_does_not_keep_its_batch(
    queue: Queue, processes: Processes
) -> None:
    fill(queue, ["mine"])
    owner = holder(
        processes,
        queue,
        "child = os.fork()\ntime.sleep(600) if child else (print('forked'), time.sleep(600))",
    )
    owner.wait_for("forked")
    owner.kill()

    with queue.consumer() as consumer:
        assert consumer.get(timeout=2) == "mine"


def test_a_child_program_does_not_keep_its_parents_batch(
    queue: Queue, processes: Processes
) -> None:
    fill(queue, ["mine"])
    owner = holder(
        processes,
        queue,
        "import subprocess\n"
        "subprocess.Popen(['sleep', '600'], close_fds=False)\nprint('started')\ntime.sleep(600)",
    )
    owner.wait_for("started")
    owner.kill()

    with queue.consumer() as consumer:
        assert consumer.get(timeout=2) == "mine"


def test_the_process_id_of_a_dead_owner_may_be_anothers(queue: Queue, processes: Processes) -> None:
    """No id is written where it decides: a batch is given back though a process has that id."""
    fill(queue, ["mine"])
    owner = holder(processes, queue)
    owner.kill()
    owner.wait()
    for sign in (queue.path / ".alive").iterdir():
        kind, _, rest = sign.name.split("_")
        sign.rename(sign.with_name(f"{kind}_{os.getpid()}_{rest}"))

    queue.recover()

    assert drain(queue) == ["mine"]
    assert queue.stats().consumers == ()


def test_recovery_takes_nothing_from_those_who_live(queue: Queue) -> None:
    fill_in_batches(queue, [1], [2])
    with queue.producer() as producer, queue.consumer() as consumer:
        producer.begin()
        consumer.get()
        before = files(queue)

        for _ in range(100):
            assert not queue.recover()

        assert files(queue) == before
        producer.put(3)

    assert drain(queue) == [2, 3]


def test_40_consumers_race_for_one_batch(queue: Queue) -> None:
    """All of them reach for it at the same moment, 50 times: one gets it, nobody fails."""
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(41)
    won = context.RawArray("i", 40)
    fill(queue, [])

    def race(index: int) -> None:
        with queue.consumer() as consumer:
            for _ in range(50):
                gate.wait(30)
                batch = consumer.take(timeout=0)
                won[index] += batch is not None
                gate.wait(30)
                if batch:
                    batch.acknowledge()

    racers = [context.Process(target=race, args=(index,)) for index in range(40)]
    for racer in racers:
        racer.start()
    for number in range(50):
        fill(queue, [number])
        gate.wait(30)
        gate.wait(30)
    for racer in racers:
        racer.join(30)

    assert [racer.exitcode for racer in racers] == [0] * 40
    assert sum(won) == 50
    assert files(queue) == []


def test_a_clock_that_goes_back_changes_neither_order_nor_ages(
    tmp_path: Path, processes: Processes
) -> None:
    process = processes.python(
        """
        import sys, time, turbo_queue
        real = time.time_ns
        queue = turbo_queue.Queue(sys.argv[1], max_events_per_file=1, max_batch_age=0.2)
        with queue.producer() as producer:
            for number in range(100):
                if number == 50:
                    time.time_ns = lambda: real() - 3600 * 10**9
                    time.time = lambda: real() / 1e9 - 3600
                producer.put(number)
        with queue.consumer(stop_when_empty=True) as consumer:
            print(list(consumer) == list(range(100)))
        """,
        str(tmp_path / "queue"),
    )

    assert process.wait() == 0
    assert process.output == "True\n"


def test_killed_owners_of_either_kind_leave_nothing_behind(
    queue: Queue, processes: Processes, seed: int
) -> None:
    """20 processes that produce and consume at once are killed at random moments."""
    moments = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(20):
        process = processes.python(
            """
            import sys, turbo_queue
            queue = turbo_queue.Queue(sys.argv[1], max_events_per_file=3)
            with queue.producer() as producer, queue.consumer() as consumer:
                print("at work")
                while True:
                    producer.put(1)
                    consumer.get()
            """,
            str(queue.path),
        )
        process.wait_for("at work")
        end = time.monotonic() + moments.random() / 20
        eventually(lambda end=end: time.monotonic() > end)
        process.kill()
        process.wait()

    drain(queue)

    hidden = {".alive", ".ready", ".room", ".recovery", ".totals", "bad"}
    assert set(os.listdir(queue.path)) <= hidden
    assert os.listdir(queue.path / ".alive") == []
    bad = [name for name in os.listdir(queue.path / "bad") if name.endswith(".txt")]
    assert all(
        "a process died while it had this" in (queue.path / "bad" / n).read_text() for n in bad
    )
