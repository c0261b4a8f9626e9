"""`turbo-queue stats`, `peek` and `watch`: look at a queue and leave it as it is."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from fixtures.processes import Processes
from fixtures.queue_commands import (
    QUEUE_COMMAND,
    filled,
    killed,
    queue_command,
    queue_command_on_a_terminal,
)
from fixtures.waiting import eventually
from turbo_queue import Queue


def rows(shown: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in shown.splitlines()}


def test_stats_shows_a_line_for_each_state(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(25), max_events_per_file=10)
    killed(queue)
    with queue.consumer() as consumer:
        assert consumer.take(timeout=0)

        done = queue_command("stats", queue.path)

    shown = rows(done.out)
    assert done.code == 0
    assert shown["STATE"] == ["BATCHES", "EVENTS", "OLDEST", "ABANDONED"]
    assert shown["ready"][:2] == ["1", "5"]
    assert shown["chosen"][:2] == ["1", "10"]
    assert shown["dead"][:2] == ["1", "10"]
    assert shown["in"] == ["25", "events", "in", "3", "batches"]
    assert shown["consumers"] == ["1", "(pid", f"{os.getpid()})"]
    assert shown["closed"] == ["no"]


def test_stats_with_json_is_what_the_api_gives(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(3))
    queue.close()

    seen = json.loads(queue_command("stats", queue.path, "--json").out)

    expected = queue.stats().as_dict()
    assert seen["ready"].pop("oldest_s") >= 0
    del expected["ready"]["oldest_s"]
    assert seen == json.loads(json.dumps(expected))
    assert seen["is_closed"] is True


def test_looking_changes_nothing(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(3))
    before = sorted(path.name for path in queue.path.rglob("*"))

    for command in (["stats"], ["peek"], ["watch", "--count", "1"], ["dead", "list"], ["export"]):
        assert queue_command(*command, queue.path).code == 0

    assert sorted(path.name for path in queue.path.rglob("*")) == before


def test_peek_prints_the_oldest_events(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", [{"id": n} for n in range(25)], max_events_per_file=10)

    ten, twelve = queue_command("peek", queue.path), queue_command("peek", queue.path, "-n", "12")

    assert ten.out.splitlines() == [f'{{"id":{n}}}' for n in range(10)]
    assert len(twelve.out.splitlines()) == 12


def test_peek_prints_the_events_of_other_states(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(3), max_events_per_file=1)
    killed(queue)
    with queue.consumer() as consumer:
        assert consumer.take(timeout=0)

        seen = [
            queue_command("peek", queue.path, "--state", state).out
            for state in ("dead", "chosen", "ready")
        ]

    assert seen == ["0\n", "1\n", "2\n"]


def test_what_is_printed_cannot_drive_the_terminal(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", ["\x1b[31m\x9b\x7f\u2028[red]", b"\xff\x00"], codec="raw")

    printed = queue_command("peek", queue.path).out

    assert printed.isascii()
    assert printed.isprintable() or set(printed) - set("\n") <= set(map(chr, range(32, 127)))
    text, data = map(json.loads, printed.splitlines())
    assert text == "\x1b[31m\x9b\x7f\u2028[red]"
    assert data == {"$bytes": "/wA="}


def test_pickles_are_only_read_when_asked_for(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", [{"id": (1, 2)}], codec="pickle")

    refused = queue_command("peek", queue.path)
    read = queue_command("peek", queue.path, "--codec", "pickle")

    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: a batch holds pickles")
    assert read.out == '{"id":[1,2]}\n'


def test_an_event_that_json_cannot_show_is_an_error(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", [{(1, 2): 3}], codec="pickle")

    for command in (["peek"], ["export"], ["export", "--take"]):
        done = queue_command(*command, queue.path, "--codec", "pickle")

        assert done.code == 1
        assert "error: an event of type dict is no JSON" in done.err
        assert "Traceback" not in done.err
    assert queue.stats().ready.events == 1


def test_watch_prints_a_line_for_each_look(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(1_500), max_events_per_file=10_000)

    done = queue_command("watch", queue.path, "--count", "3", "--interval", "0.05")

    first, *others = done.out.splitlines()
    assert (done.code, done.err, len(others)) == (0, "", 2)
    assert re.search(r"  ready \d+ batch(es)?, 1,500 events \(oldest \d+s\); chosen 0 ", first)
    assert "; in -; out -; producers 0; consumers 0" in first
    assert all("; in 0/s; out 0/s; " in line for line in others)


def test_watch_tells_how_much_goes_in_and_out(tmp_path: Path, processes: Processes) -> None:
    queue = Queue(tmp_path / "queue")
    with queue.producer() as producer, queue.consumer() as consumer:
        watch = processes.run([*QUEUE_COMMAND, "watch", str(queue.path), "--interval", "0.05"])
        watch.wait_for("producers 1; consumers 1")
        producer.put_many(range(1_000))
        producer.flush()
        for _ in range(1_000):
            consumer.get(timeout=10)
        consumer.close()
        eventually(lambda: rates_seen(watch.lines), what=lambda: watch.output)
        watch.signal(signal.SIGINT)

        assert watch.wait() == 130
    assert "Traceback" not in watch.output


def rates_seen(lines: list[str]) -> bool:
    def seen(name: str) -> bool:
        return any(f"; {name} " in line and f"; {name} 0/s" not in line for line in lines[1:])

    return seen("in") and seen("out")


def test_watch_ends_at_once_on_a_signal(tmp_path: Path, processes: Processes) -> None:
    queue = filled(tmp_path / "queue", range(3))
    for number in (signal.SIGINT, signal.SIGTERM):
        watch = processes.run([*QUEUE_COMMAND, "watch", str(queue.path), "--interval", "1000"])
        watch.wait_for("ready 1 batch")
        watch.signal(number)

        assert watch.wait(10) == 128 + number
        assert len(watch.lines) == 1, watch.output


def test_watch_on_a_terminal_is_a_table_in_its_place(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(1_234))

    shown = queue_command_on_a_terminal("watch", queue.path, "--count", "2", "--interval", "0.01")

    assert shown.count("ABANDONED") >= 2
    assert "1,234" in shown
    assert "\x1b[1A" in shown, "the second table is below the first"
    assert "now 0/s" in shown
