"""`turbo-queue import`: lines become events, and what was read is never lost."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures.processes import Process, Processes
from fixtures.queue_commands import (
    QUEUE_COMMAND,
    drained,
    filled,
    queue_command,
    queue_command_on_a_terminal,
)
from fixtures.waiting import eventually
from turbo_queue import Queue


def test_import_puts_each_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"id": 1}\n\n  \n"grüß dich"\r\nnull\n[1, 2.5]')

    done = queue_command("import", tmp_path / "queue", file)

    assert (done.code, done.out, done.err) == (0, "4 events put\n", "")
    assert drained(Queue(tmp_path / "queue")) == [{"id": 1}, "grüß dich", None, [1, 2.5]]


def test_import_reads_stdin(tmp_path: Path) -> None:
    for number, file in enumerate(([], ["-"])):
        done = queue_command("import", tmp_path / "queue", *file, stdin=f"{number}")

        assert (done.code, done.out) == (0, "1 event put\n")
    assert drained(Queue(tmp_path / "queue")) == [0, 1]


def test_import_keeps_the_order_over_many_batches(tmp_path: Path) -> None:
    lines = "".join(f'{{"id": {n}, "text": "{"x" * 50}"}}\n' for n in range(30_000))
    options = ["--max-events-per-file", "1000", "--fsync"]

    done = queue_command("import", tmp_path / "queue", *options, stdin=lines)

    queue = Queue(tmp_path / "queue")
    assert done.out == "30,000 events put\n"
    assert queue.stats().ready.batches >= 30
    assert [event["id"] for event in drained(queue)] == list(range(30_000))


@pytest.mark.parametrize("line", ["{nonsense", "[" * 100_000, b'"\xff"', "NaN", "1e999"])
def test_a_line_that_is_not_json_is_named_and_those_before_it_are_put(
    tmp_path: Path, line: str | bytes
) -> None:
    file = tmp_path / "events.jsonl"
    text = line.encode() if isinstance(line, str) else line
    file.write_bytes(b"".join(b"%d\n" % n for n in range(5_000)) + b"\n" + text + b"\n1\n")

    done = queue_command("import", tmp_path / "queue", file)

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: {file}, line 5,002: not JSON: ")
    assert done.err.endswith("; 5,000 events put\n")
    assert done.err.count("\n") == 1
    assert drained(Queue(tmp_path / "queue")) == list(range(5_000))


def test_an_event_that_the_codec_cannot_carry_is_named(tmp_path: Path) -> None:
    done = queue_command(
        "import", tmp_path / "queue", "--codec", "raw", stdin='"a"\n\n{"$bytes": "aGk="}\n1\n"b"\n'
    )

    assert done.code == 1
    assert done.err.startswith("error: stdin, line 4: the codec 'raw' cannot carry this event")
    assert done.err.endswith("; 2 events put\n")
    assert drained(Queue(tmp_path / "queue")) == ["a", b"hi"]


def test_bytes_that_are_no_base64_are_named(tmp_path: Path) -> None:
    done = queue_command(
        "import", tmp_path / "queue", "--codec", "msgpack", stdin='{"$bytes": "?"}\n'
    )

    assert done.code == 1
    assert "error: stdin, line 1: " in done.err
    assert done.err.endswith("; 0 events put\n")


def test_a_file_that_is_not_there_makes_no_queue(tmp_path: Path) -> None:
    for file in ("none.jsonl", "."):
        done = queue_command("import", tmp_path / "queue", tmp_path / file)

        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
    assert not (tmp_path / "queue").exists()


def test_a_closed_queue_takes_nothing(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue")
    queue.close()

    done = queue_command("import", queue.path, stdin="1\n")

    assert done.code == 1
    assert "was closed" in done.err
    assert done.err.endswith("; 0 events put\n")


@contextmanager
def importing(
    processes: Processes, folder: Path, env: dict[str, str] | None = None
) -> Iterator[tuple[Process, int]]:
    """An import that reads a pipe, and where to write into that."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    command = [*QUEUE_COMMAND, "import", str(folder / "queue"), str(pipe)]
    process = processes.run(command, env=env)
    descriptor = os.open(pipe, os.O_WRONLY)  # Waits for the reader.
    try:
        yield process, descriptor
    finally:
        os.close(descriptor)


def test_lines_of_a_slow_pipe_are_there_at_once(tmp_path: Path, processes: Processes) -> None:
    queue = Queue(tmp_path / "queue")
    with importing(processes, tmp_path) as (process, pipe), queue.consumer() as consumer:
        for number in range(3):
            os.write(pipe, b'{"id": %d}\n' % number)

            assert consumer.get(timeout=10) == {"id": number}
        assert process.is_running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_flushes_what_was_read(
    tmp_path: Path, processes: Processes, number: signal.Signals
) -> None:
    queue = Queue(tmp_path / "queue")
    # A batch would be published by its age only after this test.
    env = {"TURBO_QUEUE_MAX_BATCH_AGE": "1000"}
    with importing(processes, tmp_path, env) as (process, pipe), queue.producer():
        # The first batch is for consumers who wait, of whom a new queue knows nothing yet.
        os.write(pipe, b"0\n")
        eventually(lambda: queue.stats().ready.events == 1)
        os.write(pipe, b"".join(b"%d\n" % n for n in range(1, 1_235)) + b'{"half a line')
        eventually(lambda: queue.stats().loading.batches == 1)
        process.signal(number)

        assert process.wait() == 128 + number
    assert process.output == "1,235 events put\n"
    assert drained(queue) == list(range(1_235))


def test_a_signal_ends_the_wait_for_room(tmp_path: Path, processes: Processes) -> None:
    queue = Queue(tmp_path / "queue")
    env = {"TURBO_QUEUE_MAX_READY_FILES": "2", "TURBO_QUEUE_MAX_EVENTS_PER_FILE": "10"}
    with importing(processes, tmp_path, env) as (process, pipe):
        os.write(pipe, b"".join(b"%d\n" % n for n in range(1_000)))
        eventually(lambda: queue.path.exists() and queue.stats().ready.batches == 2)
        process.signal(signal.SIGINT)

        assert process.wait() == 130
    events = drained(queue)
    assert process.output == f"{len(events)} events put\n"
    assert events == list(range(len(events)))


def test_a_full_disk_is_told_with_what_is_in_the_queue(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue")
    text = '"small"\n' * 2_500 + f'"{"x" * 1_000}"\n' * 1_000

    done = queue_command(
        "import",
        queue.path,
        "--max-events-per-file",
        "1000",
        stdin=text,
        largest_file_bytes=65_536,
    )

    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("error: writing a batch failed: File too large")
    assert re.search(r"; the first 2,000 events of 2,\d{3} are in the queue", done.err)
    assert "Traceback" not in done.err
    assert drained(queue)[:2_000] == ["small"] * 2_000


JSON = [{"id": 1, "é": [None, True, 1.5, 2**80]}, "a\nb\u2028\x9b", [], {"$bytes": "no"}, -1]
TEXT = ["", "a", "a\nb", "grüß \u2028 dich\x00", '{"id": 1}']
BYTES = [b"", b"\x00\xff\n", b"abc", b"\xde\xad" * 1_000]
MESSAGES: list[Any] = [{"id": 1, "data": [b"\x00\xff", {"deep": b""}]}, b"x", None, 2**63, "a"]


@pytest.mark.parametrize(
    ("codec", "events"),
    [
        ("json", JSON),
        ("raw", TEXT),
        ("raw", BYTES),
        ("raw", [*TEXT, *BYTES, *TEXT]),
        ("msgpack", MESSAGES),
        ("pickle", [b"x", {"data": b"y"}]),
    ],
)
@pytest.mark.parametrize("option", [[], ["--take"]])
def test_what_was_exported_is_imported_as_it_was(
    tmp_path: Path, codec: str, events: list[Any], option: list[str]
) -> None:
    first, second = filled(tmp_path / "first", events, codec=codec), tmp_path / "second"
    with_codec = ["--codec", codec]

    lines = queue_command("export", first.path, *option, *with_codec).out
    done = queue_command("import", second, *with_codec, stdin=lines)

    assert done.out == f"{len(events)} events put\n"
    assert drained(Queue(second, codec=codec)) == events


def test_a_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("1\n" * 10_000)

    shown = queue_command_on_a_terminal("import", tmp_path / "queue", file)

    assert "importing" in shown
    assert "100%" in shown
    assert "20.0/20.0 kB" in shown
    assert "10,000 events put" in shown
