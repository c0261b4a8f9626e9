"""The command `turbo-queue` itself: help, version, bad usage, and how errors end it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fixtures.queue_commands import (
    QUEUE_COMMAND,
    filled,
    queue_command,
    queue_command_on_a_terminal,
    queue_commands,
)
from turbo_queue.connectors import IterableSource, QueueSink
from turbo_queue.pipeline import Pipeline

COMMANDS = ["watch", "stats", "peek", "recover", "export", "import", "bench"]
DEAD_COMMANDS = ["list", "show", "retry"]

NEEDING_A_QUEUE = {
    "watch": [],
    "stats": [],
    "peek": [],
    "recover": [],
    "dead list": [],
    "dead show": ["dead_1795247780_01a1fd1b-33f1-7000-80f8-f87c4292d42c.db"],
    "dead retry": ["--all"],
    "export": ["--take"],
}


def test_the_version_is_the_distributions() -> None:
    assert queue_command("--version").out == f"turbo-queue {version('daebus')}\n"


def test_the_installed_script_is_the_same_as_the_module() -> None:
    script = Path(sys.executable).with_name("turbo-queue")

    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)

    assert done.stdout == queue_command("--help").out


def test_the_help_lists_every_command_and_the_exit_codes() -> None:
    shown = queue_command("--help").out

    assert [name for name in [*COMMANDS, "dead"] if f"│ {name} " not in shown] == []
    for code in ("0  done", "1  an error", "2  bad usage", "130  ended by Ctrl-C"):
        assert code in shown


def test_each_commands_help_has_an_example() -> None:
    commands = [[name] for name in COMMANDS] + [["dead", name] for name in DEAD_COMMANDS]

    ends = queue_commands([*command, "--help"] for command in commands)

    for command, done in zip(commands, ends, strict=True):
        assert (command, done.code) == (command, 0)
        _, example = done.out.split("Example", 1)
        assert f" turbo-queue {' '.join(command)}" in example


def test_bad_usage_ends_with_2(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    for done in queue_commands(
        [
            ["nonsense"],
            ["stats"],
            ["peek", queue, "--number", "0"],
            ["peek", queue, "--state", "loading"],
            ["watch", queue, "--interval", "soon"],
            ["import", queue, "--codec", "yaml"],
            ["import", queue, "--max-events-per-file", "0"],
            ["dead", "retry", queue],
            ["dead", "retry", queue, "name", "--all"],
            ["bench", "--events", "0"],
        ]
    ):
        assert done.code == 2
        assert "Error" in done.err
        assert "Traceback" not in done.err
    assert not queue.exists()


@pytest.mark.parametrize("is_a_folder", [False, True])
def test_where_no_queue_is_nothing_is_made(tmp_path: Path, is_a_folder: bool) -> None:
    place = tmp_path / "place"
    if is_a_folder:
        place.mkdir()

    ends = queue_commands(
        [*command.split(), place, *arguments] for command, arguments in NEEDING_A_QUEUE.items()
    )

    for command, done in zip(NEEDING_A_QUEUE, ends, strict=True):
        assert (command, done.code, done.out) == (command, 1, "")
        assert done.err.startswith(f"error: there is no queue in '{place}'")
        assert done.err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["place"] * is_a_folder


def test_the_folder_of_a_pipeline_is_told_from_a_queue(tmp_path: Path) -> None:
    place = tmp_path / "place"
    pipeline = Pipeline(IterableSource([1]), abs, QueueSink(tmp_path / "out"), folder=place)
    pipeline.run(progress=False)

    ends = queue_commands([["stats", place], ["import", place]])

    for done in ends:
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"error: '{place}' is the folder of a pipeline; its queues are ")
        assert f"'{place / 'dead'}'" in done.err


def test_a_setting_of_the_environment_that_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    done = queue_command("stats", tmp_path, env={"TURBO_QUEUE_CHECKPOINT": "often"})

    assert done.code == 1
    assert done.err.startswith("error: checkpoint is 'often'")
    assert done.err.count("\n") == 1


def test_a_folder_that_others_may_write_to_is_one_line(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)

    done = queue_command("import", place, stdin="1\n")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: the folder cannot hold a queue")
    assert done.err.count("\n") == 1


def test_an_output_that_is_full_is_an_error_of_one_line(tmp_path: Path) -> None:
    filled(tmp_path / "queue", range(10))

    for command in (["stats"], ["peek"], ["export"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [*QUEUE_COMMAND, *command, tmp_path / "queue"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert "error: No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error_to_talk_about(tmp_path: Path) -> None:
    filled(tmp_path / "queue", ["x" * 100] * 20_000)

    for command in (["peek", "-n", "20000"], ["export"]):
        with subprocess.Popen(
            [*QUEUE_COMMAND, *command, tmp_path / "queue"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as run:
            assert run.stdout is not None
            assert run.stderr is not None
            run.stdout.readline()
            run.stdout.close()
            assert run.wait(20) == 1
            assert run.stderr.read() == b""


def test_a_stream_that_is_closed_loses_no_event(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(10))
    command = f"{' '.join(QUEUE_COMMAND)} $0 {queue.path}"
    for closed, code in (("stats >&-", 0), ("export --take >&-", 1), ("import <&-", 1)):
        name, option = closed.split(" ", 1)
        shell = f"{command.replace('$0', name)} {option}"

        done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)

        assert (done.returncode, done.stderr.count("\n")) == (code, code)
        assert code == 0 or done.stderr.startswith("error: std")
    assert queue.stats().ready.events == 10


def test_colours_are_only_for_a_terminal(tmp_path: Path) -> None:
    filled(tmp_path / "queue", range(10))

    assert "\x1b[" in queue_command_on_a_terminal("stats", tmp_path / "queue")
    assert "\x1b[" not in queue_command("stats", tmp_path / "queue").out
    assert "\x1b[" in queue_command_on_a_terminal("stats", tmp_path)
    assert "\x1b[" not in queue_command("stats", tmp_path).err
