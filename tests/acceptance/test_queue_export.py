"""`turbo-queue export`: every event becomes a line, and none is lost on the way."""

from __future__ import annotations

import fcntl
import json
import signal
import struct
import subprocess
import termios
from pathlib import Path

from fixtures.processes import Processes
from fixtures.queue_commands import (
    QUEUE_COMMAND,
    drained,
    filled,
    queue_command,
    queue_command_on_a_terminal,
)
from fixtures.waiting import eventually
from turbo_queue import Queue


def ids(text: str) -> list[int]:
    return [json.loads(line) for line in text.splitlines()]


def test_export_copies_the_oldest_first_and_leaves_the_queue(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(250), max_events_per_file=100)

    done = queue_command("export", queue.path)

    assert (done.code, done.err) == (0, "250 events copied\n")
    assert ids(done.out) == list(range(250))
    assert drained(queue) == list(range(250))


def test_export_leaves_out_what_is_finished(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(10))
    with queue.consumer() as consumer:
        batch = consumer.take(timeout=0)
        assert batch is not None
        batch.checkpoint(4)
        batch.give_back()

    assert ids(queue_command("export", queue.path).out) == list(range(4, 10))
    assert ids(queue_command("export", queue.path, "--take").out) == list(range(4, 10))


def test_export_replaces_a_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(10))
    file = tmp_path / "events.jsonl"

    for _ in range(2):
        done = queue_command("export", queue.path, "--output", file)

    assert (done.code, done.out) == (0, "")
    assert ids(file.read_text()) == list(range(10))
    assert file.stat().st_mode & 0o777 == 0o600


def test_take_takes_the_events_and_appends_to_the_file(tmp_path: Path) -> None:
    queue, file = Queue(tmp_path / "queue"), tmp_path / "events.jsonl"
    for start in (0, 250):
        filled(queue.path, range(start, start + 250), max_events_per_file=100)

        done = queue_command("export", queue.path, "--take", "--output", file)

        assert (done.code, done.err) == (0, "250 events taken\n")
    assert ids(file.read_text()) == list(range(500))
    stats = queue.stats()
    assert (stats.ready.batches, stats.chosen.batches) == (0, 0)
    assert stats.traffic.events_out == 500


def test_take_begins_on_a_line_of_its_own_after_half_a_line(tmp_path: Path) -> None:
    queue, file = filled(tmp_path / "queue", range(2)), tmp_path / "events.jsonl"
    file.write_text('{"id": 1}\n{"id"')

    queue_command("export", queue.path, "--take", "--output", file)

    assert file.read_text() == '{"id": 1}\n{"id"\n0\n1\n'


def test_take_takes_over_what_a_dead_consumer_held(tmp_path: Path, processes: Processes) -> None:
    queue = filled(tmp_path / "queue", range(3))
    code = """
        import os, sys
        from turbo_queue import Queue

        consumer = Queue(sys.argv[1]).consumer()
        assert consumer.take(timeout=10)
        os._exit(9)
    """
    assert processes.python(code, str(queue.path)).wait() == 9

    assert ids(queue_command("export", queue.path, "--take").out) == [0, 1, 2]


def test_take_ends_also_while_more_events_come(tmp_path: Path, processes: Processes) -> None:
    code = """
        import sys
        from itertools import count
        from turbo_queue import Queue

        with Queue(sys.argv[1], max_events_per_file=10, max_ready_files=50).producer() as producer:
            producer.put_many(count())
    """
    queue = Queue(tmp_path / "queue")
    producer = processes.python(code, str(queue.path))
    eventually(lambda: queue.path.exists() and queue.stats().ready.batches >= 50)

    taken = ids(queue_command("export", queue.path, "--take").out)

    assert producer.is_running, producer.output
    assert taken == list(range(len(taken)))
    assert len(taken) >= 490


def test_a_full_disk_loses_no_event_and_doubles_none(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(100_000, 110_000), max_events_per_file=1_000)
    file = tmp_path / "events.jsonl"

    done = queue_command(
        "export", queue.path, "--take", "--output", file, largest_file_bytes=32_768
    )

    written = ids(file.read_text())
    assert (done.code, done.err) == (
        1,
        f"{len(written):,} events taken\nerror: File too large\n",
    )
    assert 3_000 < len(written) < 5_000
    assert written + drained(queue) == list(range(100_000, 110_000))
    assert len(queue.dead) == 0


def is_full(process: subprocess.Popen[bytes]) -> bool:
    """Whether the pipe of its output holds as much as a pipe holds."""
    assert process.stdout is not None
    waiting = fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0\0\0\0")
    return struct.unpack("i", waiting)[0] >= 60_000


def test_a_signal_ends_a_take_whose_reader_sleeps_and_gives_the_batch_back(tmp_path: Path) -> None:
    events = ["x" * 1_000 for _ in range(1_000)]
    queue = filled(tmp_path / "queue", events, max_events_per_file=1_000)
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [*QUEUE_COMMAND, "export", queue.path, "--take"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as export:
            eventually(lambda: is_full(export))
            export.send_signal(number)

            assert export.wait(20) == 128 + number
            assert export.stderr is not None
            assert export.stderr.read().endswith(b" taken\n")
    assert queue.stats().chosen.batches == 0
    assert drained(queue)[-1] == "x" * 1_000


def test_a_signal_ends_a_take_between_two_batches_while_its_reader_reads(tmp_path: Path) -> None:
    events = [f"{n:06}{'x' * 100}" for n in range(20_000)]
    queue = filled(tmp_path / "queue", events, max_events_per_file=500)
    with subprocess.Popen(
        [*QUEUE_COMMAND, "export", queue.path, "--take"], stdout=subprocess.PIPE, text=True
    ) as export:
        assert export.stdout is not None
        read = [export.stdout.readline()]
        export.send_signal(signal.SIGINT)
        read += export.stdout.readlines()

        assert export.wait(20) == 130
    left = drained(queue)
    assert left
    assert [json.loads(line) for line in read] + left == events


def test_a_damaged_batch_is_told_and_the_others_are_copied(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(30), max_events_per_file=10)
    batch = sorted(queue.path.glob("ready_*"))[1]
    batch.write_bytes(b"no batch")

    done = queue_command("export", queue.path)

    assert done.code == 1
    assert ids(done.out) == [*range(10), *range(20, 30)]
    assert f"{batch.name} is damaged: it is no SQLite database" in done.err
    assert "error: 1 batch could not be read" in done.err


def test_a_take_sets_a_damaged_batch_aside_and_goes_on(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(30), max_events_per_file=10)
    batch = sorted(queue.path.glob("ready_*"))[1]
    batch.write_bytes(b"no batch")

    done = queue_command("export", queue.path, "--take")

    assert done.code == 0
    assert ids(done.out) == [*range(10), *range(20, 30)]
    assert batch.name.partition("_")[2] in done.err
    assert queue.stats().bad_files == 1


def test_an_output_that_cannot_be_opened_takes_nothing(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(3))

    done = queue_command("export", queue.path, "--take", "--output", tmp_path / "none" / "file")

    assert done.code == 1
    assert done.err.startswith("error: No such file or directory")
    assert drained(queue) == [0, 1, 2]


def test_a_bar_is_shown_on_a_terminal_when_the_lines_go_elsewhere(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(1_234))

    shown = queue_command_on_a_terminal("export", queue.path, "--output", tmp_path / "file")
    lines = queue_command_on_a_terminal("export", queue.path)

    assert "exporting" in shown
    assert "100%" in shown
    assert "exporting" not in lines
