"""Whatever is killed in a pipeline, whenever: nothing is lost."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures import pipelines
from fixtures.disks import fill, small_disk
from fixtures.pids import children, command_of, kill
from fixtures.processes import Process, Processes
from fixtures.waiting import eventually
from turbo_queue import Queue
from turbo_queue.connectors import IterableSource, QueueSink
from turbo_queue.pipeline import Outcome, Pipeline

ROLES = ("pipeline-reader", "pipeline-worker", "pipeline-writer")

PROGRAM = """
    import os, sys
    from pathlib import Path
    from time import perf_counter
    from turbo_queue.connectors import JsonLinesSink, JsonLinesSource
    from turbo_queue.pipeline import Pipeline

    class Work:
        def __init__(self):
            self.log = open(folder / f"worked-{os.getpid()}", "wb", buffering=0)

        def __call__(self, event):
            self.log.write(b".")
            spin()
            return event if event % 7 else None

    def spin():
        end = perf_counter() + 100e-6
        while perf_counter() < end:
            pass

    folder = Path(sys.argv[1])
    pipeline = Pipeline(
        JsonLinesSource(folder / "in.jsonl"), Work, JsonLinesSink(folder / "out.jsonl"),
        folder=folder / "pipeline", processes=2, batch_events=200, retry_pause=0.1,
        max_ready_files=8, attempts=100,
    )
    print("starting")
    sys.exit(pipeline.run().exit_code)
"""


def kill_one(rng: random.Random, program: Process) -> str | None:
    """Kill the supervisor or one of its processes; gives what it was."""
    role = rng.choice(["supervisor", *ROLES])
    if role == "supervisor":
        program.kill()
        return role
    pids = [pid for pid in children(program.pid) if command_of(pid) == role]
    if not pids:
        return None
    kill(rng.choice(pids))
    return role


@pytest.mark.timeout(120)
def test_whatever_is_killed_every_event_is_written(
    tmp_path: Path, processes: Processes, seed: int
) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    events = 30_000
    (tmp_path / "in.jsonl").write_text("".join(f"{number}\n" for number in range(events)))
    killed: list[str] = []
    pause = threading.Event()

    program = processes.python(PROGRAM, str(tmp_path))
    while program.is_running or program.wait() != 0:
        if not program.is_running:
            program = processes.python(PROGRAM, str(tmp_path))
        pause.wait(rng.uniform(0.05, 0.3))
        if len(killed) < 20 and (role := kill_one(rng, program)):
            killed.append(role)

    written = [int(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = {number for number in range(events) if number % 7}
    worked = sum(path.stat().st_size for path in tmp_path.glob("worked-*"))
    print(
        "killed", killed, "worked twice", worked - events, "written", len(written) - len(expected)
    )
    assert set(written) == expected
    assert worked > events, "no kill hit a worker at work"


def test_a_full_disk_is_waited_for_and_nothing_is_written_twice(
    tmp_path: Path, log_file: Path
) -> None:
    gate, results = tmp_path / "gate", Queue(tmp_path / "results")
    outcomes: list[Outcome] = []
    with small_disk(tmp_path / "disk") as disk:
        pipeline = _failing_at_13(gate, results, disk / "pipeline")
        thread = threading.Thread(target=_run, args=(pipeline, outcomes))
        thread.start()
        eventually((gate.with_name("begun")).exists)
        filler = fill(disk)
        gate.touch()

        # The retry of 13 does not fit, while the results have another disk.
        eventually(lambda: "again in 0.8 s" in log_file.read_text())
        filler.unlink()
        thread.join()

    assert sorted(results.peek()) == [number for number in range(100) if number != 13]
    assert (outcomes[0].counts.retried, outcomes[0].counts.dead) == (2, 1)


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    """What this process and its children log."""
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger("turbo_queue").addHandler(handler)
    yield tmp_path / "log"
    logging.getLogger("turbo_queue").removeHandler(handler)
    handler.close()


def _failing_at_13(gate: Path, results: Queue, folder: Path) -> Pipeline:
    return Pipeline(
        IterableSource(range(100)),
        pipelines.BlockedAndFailing(gate),
        QueueSink(results),
        folder=folder,
        processes=1,
        retry_pause=0.0,
    )


def _run(pipeline: Pipeline, outcomes: list[Outcome]) -> None:
    outcomes.append(pipeline.run(progress=False))
