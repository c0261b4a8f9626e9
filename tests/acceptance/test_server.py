"""`daebus server`: the bundled Valkey in the foreground."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from fixtures.commands import COMMAND, daebus
from fixtures.pids import is_alive
from fixtures.processes import Process, Processes
from fixtures.waiting import eventually


def pid_in(text: str) -> int:
    found = re.search(r"pid (\d+)", text)
    assert found is not None
    return int(found[1])


def serve(processes: Processes, folder: Path, *arguments: str) -> Process:
    process = processes.run([*COMMAND, "server", *arguments], env={"TMPDIR": str(folder)})
    process.wait_for("stops it")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_leaves_nothing(
    short_path: Path, processes: Processes, number: int
) -> None:
    process = serve(processes, short_path)
    url = process.lines[0].strip()
    assert process.lines[1].strip() == f"export DAEBUS_URL='{url}'"
    assert daebus("ps", "--url", url).code == 0

    process.signal(number)

    assert process.wait() == 0
    assert not is_alive(pid_in(process.output))
    assert list(short_path.iterdir()) == []


def test_a_port_has_a_password_that_stands_in_the_address(
    short_path: Path, processes: Processes
) -> None:
    url = serve(processes, short_path, "--port", "0").lines[0].strip()
    password = url.split("@")[0].removeprefix("redis://:")

    assert daebus("publish", "channel", "1", "--url", url, "--json").out == '{"receivers":0}\n'
    refused = daebus("ps", "--url", url.replace(f":{password}@", ":wrong-one@"))

    assert refused.code == 3
    assert "wrong-one" not in refused.err


def test_persistent_data_stays_in_the_folder(short_path: Path, processes: Processes) -> None:
    process = serve(processes, short_path, "--folder", str(short_path / "data"), "--persistent")
    process.signal(signal.SIGTERM)

    assert process.wait() == 0
    assert list((short_path / "data").glob("appendonlydir/*"))


def test_persistent_needs_a_folder() -> None:
    done = daebus("server", "--persistent")

    assert done.code == 2
    assert "--persistent needs a --folder" in done.err


def test_a_server_that_dies_ends_the_command_with_1(short_path: Path, processes: Processes) -> None:
    process = serve(processes, short_path)
    os.kill(pid_in(process.output), signal.SIGKILL)

    assert process.wait() == 1
    assert "ended by itself" in process.output
    assert list(short_path.iterdir()) == []


def test_the_server_ends_with_a_command_that_is_killed(
    short_path: Path, processes: Processes
) -> None:
    process = serve(processes, short_path)

    process.kill()

    eventually(lambda: not is_alive(pid_in(process.output)), what="the server was left behind")
