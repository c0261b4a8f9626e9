"""What waits on disk survives a stop and a kill -9, and a disk that refuses costs nothing accepted.

With 20,000 messages; 200,000 behave the same, and take half a minute.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daebus import Broadcast, Daebus, DaebusCaller, Overloaded
from fixtures import disks, services
from fixtures.processes import Process, Processes
from fixtures.services import Gate
from fixtures.waiting import eventually
from turbo_queue import Queue

Start = Callable[[Daebus], DaebusCaller]

MESSAGES = 20_000

#: Handles each number in 1 ms, and notes it in a file. A note has 8 bytes: none lies across two
#: pages, where a kill could tear it.
PROGRAM = """
import os, sys, time
from daebus import *

app = Daebus("slow", max_workers=10, max_backlog=1000)
notes = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@app.listen(sys.argv[1] + ".numbers")
def work(data):
    time.sleep(0.001)
    os.write(notes, b"%07d " % data["number"])

app.run(sys.argv[1])
"""


@pytest.fixture(autouse=True)
def own_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spool"
    monkeypatch.setenv("DAEBUS_SPOOL", str(folder))
    return folder


class Slow:
    """The slow service, in a process that is started again and again."""

    def __init__(self, processes: Processes, service: str, url: str, notes: Path) -> None:
        self._processes = processes
        self._service = service
        self._url = url
        self._notes = notes
        self.process = self.start()

    def start(self) -> Process:
        env = {"DAEBUS_URL": self._url}
        self.process = self._processes.python(PROGRAM, self._service, str(self._notes), env=env)
        self.process.wait_for("is ready at")
        return self.process

    def handled(self) -> int:
        return self._notes.stat().st_size // 8

    def counts(self) -> Counter[int]:
        return Counter(map(int, self._notes.read_text().split()))


@pytest.fixture
def slow(processes: Processes, service_name: str, url: str, tmp_path: Path) -> Slow:
    return Slow(processes, service_name, url, tmp_path / "notes")


def send(broadcaster: Broadcast, service: str, count: int = MESSAGES) -> None:
    broadcaster.send_many(
        f"{service}.numbers", ({"number": number, "text": "x" * 1000} for number in range(count))
    )


def test_a_burst_of_20_megabytes_is_handled_in_little_memory_also_across_a_stop(
    slow: Slow, broadcaster: Broadcast, service_name: str
) -> None:
    before = services.peak_kib(slow.process.pid)
    send(broadcaster, service_name)
    eventually(lambda: slow.handled() >= MESSAGES / 2, timeout_s=30)
    growth = services.peak_kib(slow.process.pid) - before
    slow.process.signal(signal.SIGTERM)
    assert slow.process.wait() == 0
    assert slow.handled() < MESSAGES
    assert "messages wait on disk for the next start" in slow.process.output

    again = slow.start()
    eventually(lambda: slow.handled() == MESSAGES, timeout_s=30)

    assert slow.counts() == dict.fromkeys(range(MESSAGES), 1)
    assert "messages wait on disk since the last run" in again.output
    assert growth < 25 * 1024


def test_a_kill_loses_nothing_of_what_was_on_disk(
    slow: Slow, broadcaster: Broadcast, service_name: str
) -> None:
    send(broadcaster, service_name)
    # By now the last message is older than the second that it may be in memory alone.
    eventually(lambda: slow.handled() >= MESSAGES * 0.7, timeout_s=30)
    slow.process.kill()
    slow.process.wait()
    assert slow.handled() < MESSAGES

    slow.start()
    eventually(lambda: len(slow.counts()) == MESSAGES, timeout_s=30)

    repeated = sum(slow.counts().values()) - MESSAGES
    assert repeated <= 2 * 250


def test_random_bursts_lose_nothing_repeat_nothing_and_keep_their_order(
    start: Start, broadcaster: Broadcast, service_name: str, seed: int
) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    app, heard, pause = Daebus("app", max_workers=1, max_backlog=7), [], threading.Event()

    @app.listen(f"{service_name}.numbers")
    def hear(number: int) -> None:
        if chance.random() < 0.01:
            pause.wait(chance.random() * 0.005)
        heard.append(number)

    start(app)
    sent = 0
    while sent < 20_000:
        burst = int(1 + 2 ** (chance.random() * 10))
        broadcaster.send_many(f"{service_name}.numbers", range(sent, sent + burst))
        sent += burst
        if chance.random() < 0.5:
            pause.wait(chance.random() * 0.01)

    eventually(lambda: len(heard) >= sent, timeout_s=30)
    assert heard == list(range(sent))


@pytest.fixture
def small_disk(tmp_path: Path, own_spool: Path) -> Iterator[Path]:
    with disks.small_disk(own_spool) as folder:
        yield folder


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


class Held:
    """A service whose handler stands before a gate, and whoever calls it."""

    def __init__(self, start: Start, gate: Gate) -> None:
        self.gate = gate
        self.handled: list[int] = []
        self.app = Daebus("app", max_workers=1, max_backlog=10)

        @self.app.action("work")
        def work(number: int, text: str = "") -> int:
            gate.pass_through()
            self.handled.append(number)
            return number

        self.caller = start(self.app)
        assert self.caller.call("work", {"number": -1}) == -1

    def flood(self, count: int) -> int:
        """Send so many requests at once; give how many were refused: all others were handled."""
        self.gate.close()
        self.handled.clear()
        before = self.refused()
        futures = [
            self.caller.submit("work", {"number": number, "text": "x" * 1000})
            for number in range(count)
        ]
        eventually(lambda: self.received() == count + before)
        self.gate.open()
        outcomes = [future.exception(20) or future.result() for future in futures]
        accepted = [number for number in range(count) if outcomes[number] == number]
        refused = [type(outcome) for outcome in outcomes if not isinstance(outcome, int)]
        eventually(lambda: self.caller.call("work", {"number": -1}) == -1)
        assert [number for number in self.handled if number >= 0] == accepted
        assert set(refused) <= {Overloaded}
        assert len(accepted) + len(refused) == count
        return len(refused)

    def received(self) -> int:
        """How many messages have come so far and wait, or were refused."""
        stats = self.app.stats()
        return stats.in_progress + stats.backlog + stats.spilled + self.refused()

    def refused(self) -> int:
        return self.app.stats().incidents.get("rejected", 0)


def test_a_disk_that_is_full_refuses_and_keeps_what_it_accepted(
    start: Start, gate: Gate, small_disk: Path
) -> None:
    held = Held(start, gate)

    refused = held.flood(4000)
    assert 2000 < refused < 3500
    assert held.app.stats().incidents["rejected"] == refused

    eventually(lambda: held.flood(1000) == 0)
    assert not list(small_disk.rglob("bad/*"))


def test_a_disk_that_somebody_else_has_filled_is_used_again_when_it_has_room(
    start: Start, gate: Gate, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held(start, gate)
    assert held.flood(600) == 0
    filler = disks.fill(small_disk)

    assert held.flood(600) > 300
    assert "No space left on device" in caplog.text

    filler.unlink()
    eventually(lambda: held.flood(1000) == 0)


def test_a_disk_that_may_only_be_read_is_told_and_refuses(
    start: Start, gate: Gate, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    held = Held(start, gate)

    assert held.flood(600) > 300

    assert "messages cannot wait on disk" in caplog.text
    assert "Read-only file system" in caplog.text
    assert "DAEBUS_SPOOL" in caplog.text


def test_without_descriptors_messages_are_refused_until_there_are_some(
    start: Start, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held(start, gate)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        with pytest.raises(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        assert held.flood(600) > 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert "Too many open files" in caplog.text

    eventually(lambda: held.flood(1000) == 0)


def test_damaged_files_are_set_aside_and_all_others_handled(
    start: Start, broadcaster: Broadcast, service_name: str, own_spool: Path
) -> None:
    with Gate() as gate:
        gate.close()
        before = Daebus("app", max_workers=1, max_backlog=10, grace=0.2)
        before.listen(f"{service_name}.numbers")(lambda number: gate.pass_through())
        start(before)
        broadcaster.send_many(f"{service_name}.numbers", range(1011))
        eventually(lambda: before.stats().spilled == 1000)
        before.stop()
    batches = sorted(own_spool.glob("*/0/spill-thread/ready_*.db"))
    batches[1].write_bytes(batches[1].read_bytes()[:10_000])
    (batches[0].parent / "ready_nonsense").write_text("?")
    with Queue(batches[0].parent).producer() as foreign:
        foreign.put(1)

    app, heard = Daebus("app", max_workers=1), []
    app.listen(f"{service_name}.numbers")(heard.append)
    start(app)

    eventually(lambda: len(heard) >= 760)
    missing = sorted(set(range(1, 1011)) - set(heard))
    assert heard == [number for number in range(1, 1011) if number not in missing]
    assert missing == list(range(missing[0], missing[0] + 250))
    eventually(lambda: app.stats().spilled == 0)
    # Three, each with its reason; the last ones after all messages are taken.
    eventually(lambda: len(list(own_spool.glob("*/0/spill-thread/bad/*"))) == 6)


def test_a_trickle_that_made_many_small_files_does_not_use_up_the_descriptors(
    start: Start,
    broadcaster: Broadcast,
    service_name: str,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daebus.service.overflow.BLOCK_MESSAGES", 1)
    app, heard = Daebus("app", max_workers=1, max_backlog=800), []

    @app.listen(f"{service_name}.numbers")
    def hear(number: int) -> None:
        gate.pass_through()
        heard.append(number)

    start(app)
    gate.close()
    broadcaster.send_many(f"{service_name}.numbers", range(1600))
    eventually(lambda: app.stats().spilled >= 799)
    gate.close(after=800)  # Now only files are left, with one message in each.
    eventually(lambda: len(heard) == 800)
    eventually(lambda: app.stats().backlog >= 150)
    most = 0
    for _ in range(20):
        threading.Event().wait(0.02)
        most = max(most, len(os.listdir("/proc/self/fd")))

    assert most < 300
    gate.open()
    eventually(lambda: heard == list(range(1600)))
