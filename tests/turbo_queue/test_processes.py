"""Handles that cross a fork, queues that cross a spawn, and what an idle consumer costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from fixtures.forks import exit_code, fork
from fixtures.processes import Processes
from fixtures.queues import drain, files, fill, fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import BatchSettled, Queue


def test_a_producer_that_crossed_a_fork_begins_anew(queue: Queue) -> None:
    with queue.producer() as producer:
        producer.put(1)
        producer.put(2)

        def child() -> None:
            producer.put("child 1")
            producer.put("child 2")
            producer.close()

        assert exit_code(fork(child)) == 0
        producer.put(3)

    assert sorted(map(str, drain(queue))) == ["1", "2", "3", "child 1", "child 2"]


def test_a_consumer_that_crossed_a_fork_begins_anew(queue: Queue) -> None:
    fill_in_batches(queue, [1, 2], [3])
    with queue.consumer() as consumer:
        assert consumer.get() == 1

        def child() -> None:
            assert consumer.get(timeout=10) == 3
            consumer.close()

        assert exit_code(fork(child)) == 0
        assert consumer.get() == 2

    assert drain(queue) == []


def test_a_batch_that_crossed_a_fork_stays_its_parents(queue: Queue) -> None:
    fill(queue, [1])
    with queue.consumer() as consumer:
        batch = consumer.take()
        assert batch

        def child() -> None:
            with pytest.raises(BatchSettled):
                batch.acknowledge()

        assert exit_code(fork(child)) == 0
        assert len(files(queue, "chosen_")) == 1
        batch.acknowledge()

    assert files(queue) == []


def test_a_child_that_is_never_used_closes_nothing(queue: Queue) -> None:
    fill(queue, [1])
    with queue.producer() as producer, queue.consumer() as consumer:
        consumer.get()
        producer.put(2)

        assert exit_code(fork(lambda: (producer.close(), consumer.close()))) == 0
        assert len(queue.stats().producers) == len(queue.stats().consumers) == 1
        producer.put(3)

    assert drain(queue) == [2, 3]


def put_some(queue: Queue, start: int) -> None:
    with queue.producer() as producer:
        producer.put_many(range(start, start + 1000))


def put_some_and_forget(queue: Queue) -> None:
    producer = queue.producer()
    for number in range(1000):
        producer.put(number)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_queue_can_be_sent_to_processes(queue: Queue, method: str) -> None:
    context = multiprocessing.get_context(method)
    children = [context.Process(target=put_some, args=(queue, n * 1000)) for n in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0

    assert sorted(drain(queue)) == list(range(2000))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_flushes_at_its_end(queue: Queue, method: str) -> None:
    child = multiprocessing.get_context(method).Process(target=put_some_and_forget, args=(queue,))
    child.start()
    child.join(30)

    assert drain(queue) == list(range(1000))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_consumer_uses_next_to_no_cpu(queue: Queue, processes: Processes) -> None:
    process = processes.python(
        """
        import sys, turbo_queue
        with turbo_queue.Queue(sys.argv[1]).consumer() as consumer:
            print(consumer.get())
            print(consumer.get())
        """,
        str(queue.path),
    )
    fill(queue, ["first"])
    process.wait_for("first")
    before = cpu_s(process.pid), time.monotonic()
    eventually(lambda: time.monotonic() - before[1] > 3)
    used = cpu_s(process.pid) - before[0]
    fill(queue, ["second"])
    process.wait_for("second")

    assert used < 0.03 * 3  # The clock of /proc ticks in hundredths; a poll loop uses far more.


def test_one_of_many_idle_consumers_wakes_for_one_batch(queue: Queue, processes: Processes) -> None:
    program = """
        import sys, turbo_queue
        with turbo_queue.Queue(sys.argv[1]).consumer() as consumer:
            print("ready")
            for event in consumer:
                print("got", event)
        """
    consumers = [processes.python(program, str(queue.path)) for _ in range(5)]
    for consumer in consumers:
        consumer.wait_for("ready")
    eventually(lambda: len(queue.stats().consumers) == 5)
    for number in range(20):
        fill(queue, [number])

    def got() -> int:
        return sum(consumer.output.count("got") for consumer in consumers)

    eventually(lambda: got() == 20)
    queue.close()
    for consumer in consumers:
        assert consumer.wait() == 0


def test_ctrl_c_ends_a_consumer_that_waits(queue: Queue, processes: Processes) -> None:
    process = processes.python(
        """
        import sys, turbo_queue
        with turbo_queue.Queue(sys.argv[1]).consumer() as consumer:
            print("ready")
            list(consumer)
        """,
        str(queue.path),
    )
    process.wait_for("ready")
    process.signal(signal.SIGINT)

    assert process.wait(10) != 0
    assert "KeyboardInterrupt" in process.output


def test_a_fork_beside_busy_threads_can_use_queues(tmp_path: Path, processes: Processes) -> None:
    program = processes.python(
        """
        import os, signal, sys, threading, warnings
        from turbo_queue import Queue

        # That is what is tried here; Python tells of it since 3.12.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

        def use(name):
            queue = Queue(f"{sys.argv[1]}/{name}")
            with queue.producer() as producer:
                producer.put(name)
            assert list(queue.consumer(stop_when_empty=True)) == [name]

        def be_busy(name):
            while not done.is_set():
                use(name)

        done = threading.Event()
        threads = [threading.Thread(target=be_busy, args=(f"t{number}",)) for number in range(2)]
        for thread in threads:
            thread.start()
        for number in range(150):
            pid = os.fork()
            if pid == 0:
                signal.alarm(10)
                use(f"f{number}")
                os._exit(0)
            print(os.waitpid(pid, 0)[1])
        done.set()
        for thread in threads:
            thread.join()
        """,
        str(tmp_path),
    )

    assert program.wait(50) == 0, program.output
    assert program.output.split() == ["0"] * 150
