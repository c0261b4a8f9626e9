"""F32, F34, F40: kill -9 of producers and consumers at random moments and at each system call."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fixtures.processes import SOURCE, Process, Processes
from fixtures.queues import drain, files, fill
from fixtures.waiting import eventually
from turbo_queue import Queue

EVENTS = 1_000_000
KILLS = 50

PRODUCER = """
import sys, turbo_queue
path, start, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
queue = turbo_queue.Queue(path, max_events_per_file=500, max_ready_files=200)
with queue.producer() as producer:
    for first in range(start, end, 1000):
        producer.put_many(range(first, min(first + 1000, end)))
        producer.flush()
        print(min(first + 1000, end))
"""

#: Each event is written, unbuffered, before the next one is asked for: what was handled is known
#: also of a consumer that was killed.
CONSUMER = """
import os, sys, turbo_queue
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
with turbo_queue.Queue(sys.argv[1]).consumer() as consumer:
    for event in consumer:
        os.write(log, event.to_bytes(4, "big"))
"""


def handled(folder: Path) -> Counter[int]:
    """How often each event was handled, from the logs of all consumers."""
    times: Counter[int] = Counter()
    for log in folder.glob("*.log"):
        data = log.read_bytes()
        times.update(int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))
    return times


@pytest.mark.timeout(240)
def test_killed_consumers_lose_nothing(
    queue: Queue, tmp_path: Path, processes: Processes, seed: int
) -> None:
    """One of four consumers, 50 times, while recovery runs in a loop beside them."""
    moments = random.Random(seed)
    numbers = itertools.count()

    def consumer() -> Process:
        log = tmp_path / f"{next(numbers)}.log"
        return processes.python(CONSUMER, str(queue.path), str(log))

    stopped = threading.Event()

    def recover_in_a_loop() -> None:
        while not stopped.wait(0.01):
            queue.recover()

    def handled_so_far() -> int:
        return sum(log.stat().st_size // 4 for log in tmp_path.glob("*.log"))

    producer = processes.python(PRODUCER, str(queue.path), "0", str(EVENTS))
    recovering = threading.Thread(target=recover_in_a_loop)
    recovering.start()
    consumers = [consumer() for _ in range(4)]
    for kill in range(KILLS):
        share = EVENTS * kill // (KILLS + 10)
        eventually(lambda share=share: handled_so_far() > share, timeout_s=60)
        victim = moments.randrange(4)
        consumers[victim].kill()
        consumers[victim] = consumer()
    assert producer.wait(60) == 0, producer.output
    queue.close()
    codes = [consumer.wait(60) for consumer in consumers]
    stopped.set()
    recovering.join()

    times = handled(tmp_path)
    duplicates = sum(times.values()) - len(times)
    print(f"seed {seed}: {duplicates} duplicates in {KILLS} kills")
    assert codes == [0] * 4, [consumer.output for consumer in consumers]
    assert set(times) == set(range(EVENTS))
    assert 0 < duplicates <= KILLS * 100
    assert files(queue) == []
    assert queue.stats().bad_files == 0


@pytest.mark.timeout(240)
def test_killed_producers_lose_nothing_that_was_flushed(
    queue: Queue, tmp_path: Path, processes: Processes, seed: int
) -> None:
    """One of two producers, 50 times; each goes on behind its last flush that it told of."""
    moments = random.Random(seed)
    share = EVENTS // 2
    at = [0, share]

    def producer(index: int) -> Process:
        return processes.python(PRODUCER, str(queue.path), str(at[index]), str(share * (index + 1)))

    def flushed(index: int) -> int:
        return int((re.findall(r"^\d+$", producers[index].output, re.MULTILINE) or [at[index]])[-1])

    consumers = [
        processes.python(CONSUMER, str(queue.path), str(tmp_path / f"{number}.log"))
        for number in range(2)
    ]
    producers = [producer(0), producer(1)]
    for kill in range(KILLS):
        victim = kill % 2
        until = victim * share + share * (kill + moments.randrange(1, 3)) // (KILLS + 5)
        eventually(lambda v=victim, until=until: flushed(v) >= until, timeout_s=60)
        producers[victim].kill()
        producers[victim].wait()
        at[victim] = flushed(victim)
        producers[victim] = producer(victim)
    for index in range(2):
        assert producers[index].wait(60) == 0, producers[index].output
    queue.close()
    for consumer in consumers:
        assert consumer.wait(60) == 0, consumer.output

    times = handled(tmp_path)
    assert set(times) == set(range(EVENTS))
    # What a killed producer had put but not told of is put again by the next one.
    assert sum(times.values()) - len(times) <= KILLS * 2000
    assert files(queue) == []


#: The system calls that change the folder, or take and free what others wait for.
CALLS = {
    "rename": "rename,renameat,renameat2",
    "unlink": "unlink,unlinkat",
    "write": "write,pwrite64,ftruncate",
    "fsync": "fsync,fdatasync",
    "open": "openat,mknodat,mknod",
    "lock": "flock",
    "close": "close",
}

#: Both begin when they read a byte, so that strace counts no call of the start of Python,
#: and tell at once what they promise: that events were flushed, or that one was handled.
PRODUCER_BY_STEPS = """
import os, sys, turbo_queue
queue = turbo_queue.Queue(sys.argv[1], max_events_per_file=8, fsync=True)
os.write(1, b"ready\\n")
os.read(0, 1)
with queue.producer() as producer:
    for start in range(0, 30, 10):
        for number in range(start, start + 10):
            producer.put(number)
        producer.flush()
        os.write(1, b"".join(b"%d\\n" % number for number in range(start, start + 10)))
"""

CONSUMER_BY_STEPS = """
import os, sys, turbo_queue
queue = turbo_queue.Queue(sys.argv[1], checkpoint=5)
os.write(1, b"ready\\n")
os.read(0, 1)
with queue.consumer(stop_when_empty=True) as consumer:
    for event in consumer:
        os.write(1, b"%d\\n" % event)
"""


#: What is in the queue before: a full batch and another one.
WAITING = range(100, 113)

#: So many victims run side by side, each with a queue of its own.
AT_ONCE = 3


def run_until_killed(program: str, queue: Queue, calls: str, number: int) -> tuple[int, list[int]]:
    """Run a program and kill it at its n-th such call; gives its exit code and what it told."""
    victim = subprocess.Popen(
        [sys.executable, "-c", program, str(queue.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert victim.stdout
    assert victim.stdout.readline() == b"ready\n"
    strace = subprocess.Popen(
        [
            *("strace", "-f", "-o", "/dev/null", "-p", str(victim.pid)),
            *("-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={number}"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr
    try:
        while "attached" not in (line := strace.stderr.readline()):
            assert line, "strace could not attach"
        output, _ = victim.communicate(b"\n", timeout=30)
    finally:
        victim.kill()
        victim.wait()
        strace.wait(10)
        strace.stderr.close()
    return victim.returncode, [int(line) for line in output.split()]


def points_of_death(
    tmp_path: Path, program: str, calls: str
) -> Iterator[tuple[Queue, list[int], bool]]:
    """The queue after a death at the first such call, the second, …, and what was told before."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed; 'apt-get install strace' brings it")

    def die(number: int) -> tuple[Queue, int, list[int]]:
        queue = Queue(tmp_path / str(number), max_events_per_file=8)
        fill(queue, WAITING)
        return queue, *run_until_killed(program, queue, calls, number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in itertools.count(1, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            for number, (queue, code, told) in zip(numbers, pool.map(die, numbers), strict=True):
                assert code in {0, -signal.SIGKILL}
                yield queue, told, code == 0
                if code == 0:
                    print(f"killed at {number - 1} points")
                    return


@pytest.mark.timeout(180)
@pytest.mark.parametrize("call", CALLS)
def test_a_producer_killed_at_any_call_loses_nothing_flushed(tmp_path: Path, call: str) -> None:
    deaths = 0
    for queue, told, survived in points_of_death(tmp_path, PRODUCER_BY_STEPS, CALLS[call]):
        deaths += not survived
        events = drain(queue)

        assert {*told, *WAITING} <= set(events)
        assert set(events) <= {*range(30), *WAITING}
        assert len(events) == len(set(events))
        assert files(queue) == []
        assert call == "write" or queue.stats().bad_files == 0
    assert deaths


@pytest.mark.timeout(180)
@pytest.mark.parametrize("call", [call for call in CALLS if call != "fsync"])
def test_a_consumer_killed_at_any_call_loses_nothing(tmp_path: Path, call: str) -> None:
    deaths = 0
    for queue, told, survived in points_of_death(tmp_path, CONSUMER_BY_STEPS, CALLS[call]):
        deaths += not survived
        events = drain(queue)

        assert {*told, *events} == set(WAITING)
        assert len(set(told) & set(events)) <= 5
        assert files(queue) == []
        assert queue.stats().bad_files == 0
        assert len(queue.dead) == 0
    assert deaths
