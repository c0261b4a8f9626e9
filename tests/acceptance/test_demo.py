"""`daebus demo`: the main job on real parts, and nothing left behind."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from time import monotonic

import pytest

from fixtures.commands import COMMAND, daebus_on_a_terminal
from fixtures.pids import is_alive
from fixtures.processes import Processes
from fixtures.waiting import eventually


def test_it_shows_every_kind_of_call_and_leaves_nothing(
    short_path: Path, processes: Processes
) -> None:
    begin = monotonic()
    process = processes.run([*COMMAND, "demo"], env={"TMPDIR": str(short_path)})

    assert process.wait() == 0
    assert monotonic() - begin < 15
    shown = process.output
    assert "-> 42, in" in shown
    assert "BadRequest" in shown
    assert '-> {"part":3,"of":3}' in shown
    assert '1 receiver; the service has heard ["it works"]' in shown
    assert re.search(r"1,000 right answers in [0-9.]+ s: [0-9,]+ calls/s", shown)
    assert re.search(r"\[113511,.*\] in [0-9.]+ s; meanwhile an action in a thread took", shown)
    assert "the service was started again, and has the orders [7]" in shown
    assert "\x1b" not in shown
    assert list(short_path.iterdir()) == []
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", shown)]
    assert len(pids) == 3  # A server, and a service twice.
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cleans_up_too(
    short_path: Path, processes: Processes, number: int, code: int
) -> None:
    process = processes.run([*COMMAND, "demo"], env={"TMPDIR": str(short_path)})
    process.wait_for("answers the actions")

    process.signal(number)

    assert process.wait() == code
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", process.output)]
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    assert list(short_path.iterdir()) == []


def test_a_terminal_sees_a_progress_bar() -> None:
    assert "answered" in daebus_on_a_terminal("demo")
