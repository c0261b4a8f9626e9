"""`turbo-queue bench`: a measurement that leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from fixtures.processes import Processes
from fixtures.queue_commands import QUEUE_COMMAND, queue_command, queue_commands
from fixtures.waiting import eventually


def test_bench_tells_events_per_second_and_cpu_per_event(tmp_path: Path) -> None:
    crowd = ["--producers", "2", "--consumers", "2", "--events", "5001"]

    done = queue_command("bench", *crowd, "--folder", tmp_path)

    assert (done.code, done.err) == (0, "")
    who, rate, cpu = done.out.splitlines()
    assert who == "2 producers, 2 consumers, json"
    assert re.fullmatch(r"[\d,]+ events/s", rate)
    assert re.fullmatch(r"[\d.]+ CPU microseconds per event \([\d.]+ to put, [\d.]+ to get\)", cpu)
    assert list(tmp_path.iterdir()) == []


def test_bench_measures_every_codec(tmp_path: Path) -> None:
    codecs = ["msgpack", "raw", "pickle"]

    ends = queue_commands(
        ["bench", "--events", "500", "--folder", tmp_path, "--codec", codec] for codec in codecs
    )

    for codec, done in zip(codecs, ends, strict=True):
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"1 producer, 1 consumer, {codec}\n")


def test_bench_in_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = queue_command("bench", "--folder", tmp_path / "none")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: No such file or directory")
    assert done.err.count("\n") == 1


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in tasks.split()]


def test_a_signal_ends_the_bench_and_leaves_nothing_behind(
    tmp_path: Path, processes: Processes
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        bench = processes.run(
            [*QUEUE_COMMAND, "bench", "--events", "1000000000", "--folder", str(tmp_path)]
        )
        eventually(lambda: list(tmp_path.glob("*/queue/ready_*")), 20.0)
        children = children_of(bench.pid)
        # As a terminal does it: to the command and all of its processes.
        os.killpg(bench.pid, number) if number == signal.SIGINT else bench.signal(number)

        assert bench.wait() == 128 + number
        assert bench.output == ""
        assert list(tmp_path.iterdir()) == []
        assert len(children) >= 2
        eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children))  # noqa: B023
