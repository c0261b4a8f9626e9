"""A group of worker processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from fixtures import worker_programs
from fixtures.forks import exit_code, fork
from fixtures.pids import is_alive
from fixtures.processes import Processes
from fixtures.waiting import eventually
from turbo_queue.errors import WorkerFailed
from turbo_queue.worker import Worker
from turbo_queue.workers import WorkerGroup


class Notes:
    """What a group has told."""

    def __init__(self) -> None:
        self.messages: list[tuple[Worker, bytes]] = []
        self.ends: list[tuple[int, str]] = []
        self.overdue: list[Worker] = []

    def on_message(self, worker: Worker, data: bytes) -> None:
        self.messages.append((worker, data))

    def on_overdue(self, worker: Worker) -> None:
        self.overdue.append(worker)

    def on_end(self, worker: Worker, how: str) -> None:
        self.ends.append((worker.pid, how))


Start = Callable[..., tuple[WorkerGroup, Notes]]


@pytest.fixture(params=["fork", "spawn"])
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    groups: list[WorkerGroup] = []

    def start_group(
        target: Callable[..., None], *arguments: Any, count: int = 2
    ) -> tuple[WorkerGroup, Notes]:
        notes = Notes()
        group = WorkerGroup(
            target, arguments, count=count, watcher=notes, start_method=request.param
        )
        groups.append(group)
        group.start()
        return group, notes

    yield start_group
    for group in groups:
        group.join(0)


def pids_of(group: WorkerGroup) -> set[int]:
    return {worker.pid for worker in group.workers if worker.is_ready}


def staying(group: WorkerGroup) -> set[Worker]:
    return {worker for worker in group.workers if worker.is_ready and not worker.is_leaving}


def test_workers_answer_on_their_own_pipe(start: Start) -> None:
    group, notes = start(worker_programs.echo)
    assert group.wait_until_ready(20)

    for worker in group.workers:
        worker.send(b"hello")
    eventually(lambda: len(notes.messages) == 2)

    assert all(data == b"%d:hello" % worker.pid for worker, data in notes.messages)
    assert {worker.pid for worker, _ in notes.messages} == pids_of(group)


@pytest.mark.parametrize(
    ("order", "how"), [(b"die", "exited with code 3"), (b"raise", "ZeroDivisionError: on purpose")]
)
def test_a_worker_that_ends_is_replaced_and_the_others_go_on(
    start: Start, order: bytes, how: str
) -> None:
    group, notes = start(worker_programs.echo)
    assert group.wait_until_ready(20)
    first, second = group.workers

    first.send(order)
    eventually(lambda: notes.ends)
    second.send(b"still here")

    assert notes.ends[0][0] == first.pid
    assert how in notes.ends[0][1]
    eventually(lambda: notes.messages == [(second, b"%d:still here" % second.pid)])
    eventually(lambda: len(pids_of(group)) == 2)


def test_a_killed_worker_is_told_by_its_signal_and_replaced_within_a_second(start: Start) -> None:
    group, notes = start(worker_programs.wait)
    assert group.wait_until_ready(20)
    victim = group.workers[0].pid
    began = monotonic()

    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(pids_of(group) - {victim}) == 2)

    assert monotonic() - began < 1.0
    assert notes.ends == [(victim, "was killed by SIGKILL")]


def test_a_worker_that_cannot_begin_fails_the_start_and_is_not_tried_all_the_time(
    start: Start, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    group, _ = start(worker_programs.never_ready, str(log), count=1)

    with pytest.raises(WorkerFailed, match=r"FileNotFoundError: no model.* before it was ready"):
        group.wait_until_ready(20)
    eventually(lambda: len(log.read_text().split()) >= 3)

    times = [float(text) for text in log.read_text().split()]
    assert times[1] - times[0] >= 0.1
    assert times[2] - times[1] >= 0.2


def test_a_worker_is_replaced_only_once_another_is_ready(start: Start) -> None:
    group, notes = start(worker_programs.echo, count=1)
    assert group.wait_until_ready(20)
    old = group.workers[0]
    seen: list[int] = []
    on_message = notes.on_message

    def replace(worker: Worker, data: bytes) -> None:
        group.replace(worker)
        on_message(worker, data)

    notes.on_message = replace
    old.send(b"go")
    eventually(lambda: seen.append(len(staying(group))) or staying(group) - {old})
    old.send(b"last")  # Wakes it, so that it sees the stop.
    eventually(lambda: notes.ends == [(old.pid, "exited with code 0")])

    assert min(seen) >= 1


def test_a_stop_lets_workers_end_by_themselves(start: Start) -> None:
    group, notes = start(worker_programs.wait)
    assert group.wait_until_ready(20)

    group.join(20)

    assert [how for _, how in notes.ends] == ["exited with code 0"] * 2


def test_a_stop_kills_those_that_do_not_end_in_time(start: Start) -> None:
    group, notes = start(worker_programs.never_stop)
    assert group.wait_until_ready(20)
    began = monotonic()

    group.join(0.2)

    assert 0.2 <= monotonic() - began < 2
    assert [how for _, how in notes.ends] == ["was killed by SIGKILL"] * 2


def test_a_limit_is_told_once(start: Start) -> None:
    group, notes = start(worker_programs.echo, count=1)
    assert group.wait_until_ready(20)
    worker = group.workers[0]

    def limit(worker: Worker, _data: bytes) -> None:
        worker.limit_at = monotonic() + 0.05

    notes.on_message = limit
    worker.send(b"go")
    eventually(lambda: notes.overdue)

    assert notes.overdue == [worker]
    assert worker.limit_at is None


def test_the_terminals_and_systemds_signals_are_the_parents_business(start: Start) -> None:
    group, notes = start(worker_programs.echo)
    assert group.wait_until_ready(20)

    for worker in group.workers:
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
        worker.send(b"here")
    eventually(lambda: len(notes.messages) == 2)

    assert not notes.ends


def test_a_program_that_a_worker_starts_can_be_terminated(start: Start) -> None:
    group, notes = start(worker_programs.start_a_program, count=1)

    eventually(lambda: notes.messages, timeout_s=20)

    assert notes.messages[0][1] == b"%d" % -signal.SIGTERM
    assert group.workers


def test_a_child_that_a_worker_left_does_not_hide_its_end(start: Start) -> None:
    _, notes = start(worker_programs.fork_a_child, count=1)
    eventually(lambda: notes.messages, timeout_s=20)
    worker = notes.messages[0][0]
    began = monotonic()

    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: notes.ends)
    took_s = monotonic() - began
    eventually(lambda: len(notes.messages) == 2, timeout_s=20)  # The next one has a child, too.
    for _, child in notes.messages:
        os.kill(int(child), signal.SIGKILL)

    assert took_s < 1.0
    assert notes.ends == [(worker.pid, "was killed by SIGKILL")]


PARENT = """
import os, sys, threading, time
from fixtures import worker_programs
from turbo_queue.workers import WorkerGroup

class Deaf:
    def on_message(self, worker, data): pass
    def on_overdue(self, worker): pass
    def on_end(self, worker, how): pass

if __name__ == "__main__":
    targets, method = (worker_programs.wait, worker_programs.hold_the_gil), sys.argv[1]
    groups = [
        WorkerGroup(target, count=2, watcher=Deaf(), start_method=method) for target in targets
    ]
    for group in groups:
        group.start()
        group.wait_until_ready(20)
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    pids = [worker.pid for group in groups for worker in group.workers]
    print("pids", child, *pids, flush=True)
    if sys.argv[2] == "killed":
        time.sleep(1000)
"""


@pytest.mark.parametrize("end", ["killed", "over"])
@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_no_worker_outlives_its_parent(
    processes: Processes, tmp_path: Path, start_method: str, end: str
) -> None:
    program = tmp_path / "parent.py"
    program.write_text(PARENT)
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    parent = processes.run(
        [os.sys.executable, str(program), start_method, end], env={"PYTHONPATH": path}
    )
    parent.wait_for("pids")
    child, *pids = (int(text) for text in parent.output.split("pids")[1].split())
    assert len(pids) == 4

    if end == "killed":
        parent.kill()
    # The parent's other child has inherited its ends of the pipes, if it could.
    eventually(lambda: not any(is_alive(pid) for pid in pids), timeout_s=2.0)

    assert is_alive(child)


def test_a_fork_of_the_parent_does_not_end_its_workers(start: Start) -> None:
    group, notes = start(worker_programs.wait)
    assert group.wait_until_ready(20)

    assert exit_code(fork(lambda: group.join(0))) == 0

    assert not notes.ends
    assert all(is_alive(pid) for pid in pids_of(group))
    assert len(pids_of(group)) == 2


def test_groups_may_be_started_by_several_threads_at_once(start: Start) -> None:
    groups: list[WorkerGroup] = []
    threads = [
        threading.Thread(target=lambda: groups.append(start(worker_programs.wait)[0]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(group.wait_until_ready(20) for group in groups)
    for group in groups:
        group.join(20)
