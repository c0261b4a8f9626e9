"""Kill -9 of what fills a queue from a source, and of what empties one to a sink."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daebus.bus.connection import client
from daebus.connectors import RedisStreamSink, RedisStreamSource
from fixtures.connecting import write
from fixtures.processes import Process, Processes
from fixtures.waiting import eventually
from turbo_queue import Queue
from turbo_queue.connectors import JsonLinesSource, fill

pytestmark = pytest.mark.timeout(180)

EVENTS = 5_000
KILLS = 6

#: A moment between what is safe and what is told so, in which most of the kills fall.
SLOWLY = """
import sys, threading, time
from pathlib import Path
from turbo_queue import Queue
from turbo_queue.connectors import JsonLinesSink, JsonLinesSource, empty
from turbo_queue.connectors.filling import Filling
from turbo_queue.pipeline.positions import PositionFile
from daebus.connectors import RedisStreamSink, RedisStreamSource

def slow(function):
    def slowly(*arguments):
        given = function(*arguments)
        time.sleep(0.05)
        return given
    return slowly

class SlowFilling(Filling):
    flush = slow(Filling.flush)

class Slow:
    def __init__(self, sink):
        self.sink, self.queue = sink, None

    def open(self, stopping):
        writer = self.sink.open(stopping)
        writer.flush = slow(writer.flush)
        return writer

path, place, name = sys.argv[1:]
"""

FILL = """
source = RedisStreamSource(name, group="g", url=place, take_over=0.3) if name else (
    JsonLinesSource(place))
position = PositionFile(Path(path + ".position"), fsync=False)
queue = Queue(path, codec="record", max_events_per_file=200)
SlowFilling(queue, source, stopping=threading.Event(), position=position).run(
    on_open=lambda: print("open"))
"""

EMPTY = """
sink = RedisStreamSink(name, url=place) if name else JsonLinesSink(place)
queue = Queue(path)
print("open")
empty(queue, Slow(sink), stop_when_empty=True)
"""


def kill_and_kill_again(start: Callable[[], Process], moments: random.Random) -> None:
    """Run a program, kill it while it is at work, and again; let the last one work on."""
    pause = threading.Event()
    for _ in range(KILLS):
        process = start()
        process.wait_for("open")
        pause.wait(moments.uniform(0.0, 0.15))
        process.kill()
        process.wait()


def check(numbers: Iterable[int]) -> None:
    """Nothing is missing, and the kills have hit what was at work."""
    times = Counter(numbers)
    assert sorted(times) == list(range(EVENTS))
    duplicates = times.total() - EVENTS
    print(f"{duplicates} duplicates")
    assert duplicates > 0


def event(number: int) -> dict[str, Any]:
    """Large enough for a write to be torn."""
    return {"id": number, "text": "x" * 500}


@pytest.fixture
def moments(seed: int) -> random.Random:
    print(f"TEST_SEED={seed}")
    return random.Random(seed)


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_what_reads_a_file_may_be_killed(
    tmp_path: Path, processes: Processes, moments: random.Random, name: str
) -> None:
    path = tmp_path / name
    lines = b"".join(json.dumps(event(number)).encode() + b"\n" for number in range(EVENTS))
    path.write_bytes(gzip.compress(lines) if name.endswith("gz") else lines)
    queue = Queue(tmp_path / "queue")

    def start() -> Process:
        return processes.python(SLOWLY + FILL, str(queue.path), str(path), "")

    kill_and_kill_again(start, moments)
    assert start().wait() == 0

    check(json.loads(record.value)["id"] for record in queue.peek())


def test_what_reads_a_stream_may_be_killed(
    tmp_path: Path, url: str, processes: Processes, moments: random.Random
) -> None:
    name = f"events-{uuid.uuid4().hex}"
    write(RedisStreamSink(name, url=url), map(event, range(EVENTS)))
    queue = Queue(tmp_path / "queue", codec="record")
    kill_and_kill_again(
        lambda: processes.python(SLOWLY + FILL, str(queue.path), url, name), moments
    )

    # Another reader takes over what the killed one had.
    stopping = threading.Event()
    source = RedisStreamSource(name, group="g", url=url, take_over=0.3)
    filling = threading.Thread(target=fill, args=(queue, source), kwargs={"stopping": stopping})
    filling.start()
    try:
        _wait_until_all_is_acknowledged(url, name)
    finally:
        stopping.set()
        filling.join(20)

    check(int(record.value["id"]) for record in queue.peek())


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_what_writes_a_file_may_be_killed(
    tmp_path: Path, processes: Processes, moments: random.Random, name: str
) -> None:
    queue = _filled(tmp_path)
    path = tmp_path / name

    def start() -> Process:
        return processes.python(SLOWLY + EMPTY, str(queue.path), str(path), "")

    kill_and_kill_again(start, moments)
    assert start().wait() == 0

    lines = path.read_bytes()
    if name.endswith("gz"):
        unpacked = subprocess.run(["gunzip", "-c", path], capture_output=True, check=True)
        lines = unpacked.stdout
    check(_whole(lines, halves=0 if name.endswith("gz") else KILLS))


def test_what_writes_a_stream_may_be_killed(
    tmp_path: Path, url: str, processes: Processes, moments: random.Random
) -> None:
    queue = _filled(tmp_path)
    name = f"events-{uuid.uuid4().hex}"

    def start() -> Process:
        return processes.python(SLOWLY + EMPTY, str(queue.path), url, name)

    kill_and_kill_again(start, moments)
    assert start().wait() == 0

    with closing(client(url)) as server:
        check(int(fields[b"id"]) for _, fields in server.xrange(name))


def test_a_file_that_a_kill_has_torn_is_read_to_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"id": 0}\n{"id": 1}\n{"id"')
    queue = Queue(tmp_path / "queue", codec="raw")

    assert fill(queue, JsonLinesSource(path)) == 3


def _filled(folder: Path) -> Queue:
    queue = Queue(folder / "queue", max_events_per_file=10)
    with queue.producer() as producer:
        producer.put_many(map(event, range(EVENTS)))
    return queue


def _whole(lines: bytes, *, halves: int) -> Iterable[int]:
    """The numbers of the lines that are whole; of the others there is at most one for each kill."""
    torn = 0
    for line in lines.splitlines():
        try:
            yield json.loads(line)["id"]
        except ValueError:
            torn += 1
    assert torn <= halves


def _wait_until_all_is_acknowledged(url: str, name: str) -> None:
    with closing(client(url)) as server:

        def is_done() -> bool:
            [group] = server.xinfo_groups(name)
            last = server.xinfo_stream(name)["last-generated-id"]
            return group["pending"] == 0 and group["last-delivered-id"] == last

        eventually(is_done, 30)
