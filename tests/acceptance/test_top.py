"""`daebus top`: the real command, on a terminal and for scripts."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from daebus.bus.connection import client
from daebus.bus.embedded import EmbeddedServer
from daebus.operate.fleet.views import Fleet
from fixtures.commands import COMMAND, daebus, daebus_each
from fixtures.processes import Processes
from fixtures.queues import fill_in_batches
from fixtures.terminals import Terminal
from fixtures.waiting import eventually
from turbo_queue import Queue

pytestmark = pytest.mark.usefixtures("url")

NOWHERE = "redis://me:secret@localhost:1"


def on_a_terminal(*arguments: str, code: str | None = None) -> Terminal:
    command = [sys.executable, "-c", code] if code else COMMAND
    return Terminal([*command, "top", *arguments], dict(os.environ))


def test_once_tells_it_with_rates_as_tables_or_in_a_line(service: str, tmp_path: Path) -> None:
    fill_in_batches(Queue(tmp_path / "orders"), range(20))
    daebus("call", service, "fail")
    once = ["top", "--once", "--folder", str(tmp_path), "--sort", "requests"]

    line, tables = daebus_each([[*once, "--json", "--filter", service], once])

    fleet = msgspec.json.decode(line.out, type=Fleet, strict=True)
    assert (line.code, tables.code, len(line.out.splitlines())) == (0, 0, 1)
    (view,) = fleet.services
    assert (view.service, view.ready, view.handled, view.errors) == (service, 1, 1, 1)
    assert view.requests_per_s is not None
    assert (fleet.queues, fleet.trouble) == ([], None)  # The name of none has the text.
    services, places = (table.splitlines() for table in tables.out.split("\n\n"))
    assert services[0].split()[:3] == ["SERVICE", "READY", "REQ/S"]
    assert [service, "1/1"] in [row.split()[:2] for row in services]
    assert [row.split()[:3] for row in places[1:]] == [["orders", "open", "20"]]


def test_a_server_that_is_away_ends_once_with_3_and_what_else_there_is(tmp_path: Path) -> None:
    fill_in_batches(Queue(tmp_path / "orders"), range(20))

    done = daebus("top", "--once", "--json", "--url", NOWHERE, "--folder", str(tmp_path))

    fleet = msgspec.json.decode(done.out, type=Fleet)
    assert (done.code, [queue.name for queue in fleet.queues]) == (3, ["orders"])
    assert "cannot use the server at redis://me:***@localhost:1" in done.err
    assert "secret" not in done.out + done.err


BAD_USAGE = {
    "a live view needs a terminal": [],
    "add --once": ["--json"],
    "nonsense is no server address": ["--once", "--url", "nonsense"],
    "'luck' is not one of 'service'": ["--once", "--sort", "luck"],
}


def test_bad_usage_ends_with_2() -> None:
    ends = daebus_each(["top", *arguments] for arguments in BAD_USAGE.values())

    for text, done in zip(BAD_USAGE, ends, strict=True):
        assert done.code == 2
        assert text in done.err
        assert "Traceback" not in done.err


def test_once_can_be_interrupted(own_server: EmbeddedServer, processes: Processes) -> None:
    arguments = ["--once", "--json", "--interval", "60", "--url", own_server.url]
    once = processes.run([*COMMAND, "top", *arguments])
    with client(own_server.url) as server:
        eventually(lambda: server.info("clients")["connected_clients"] == 2)

    once.signal(signal.SIGINT)

    assert (once.wait(), once.output) == (0, "")


def test_the_view_is_left_with_ctrl_c(service: str) -> None:
    with on_a_terminal("--filter", service) as terminal:
        terminal.wait_for("1/1")
        terminal.press("\x03")

        assert terminal.end() == 0
    assert "\x1b[?1049l" in terminal.output  # The terminal has its own screen back.
    assert "Traceback" not in terminal.output


def test_a_signal_ends_the_view(service: str) -> None:
    with on_a_terminal("--filter", service) as terminal:
        terminal.wait_for("1/1")
        terminal.process.send_signal(signal.SIGTERM)

        assert terminal.end() == 0
    assert "\x1b[?1049l" in terminal.output


def test_without_textual_it_says_how_to_get_it() -> None:
    code = """if True:
        import sys
        sys.modules["textual"] = None  # As if it were not installed.
        from daebus.operate.cli import main
        main()
    """
    with on_a_terminal(code=code) as terminal:
        assert terminal.end() == 2
    assert "pip install 'daebus[top]'" in " ".join(terminal.output.split())

    with on_a_terminal("--once", "--url", NOWHERE, code=code) as terminal:
        assert terminal.end() == 3  # It looked, and found no server.


def test_no_color_is_respected(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    with on_a_terminal("--filter", service) as terminal:
        terminal.wait_for("1/1")
        terminal.press("q")
        terminal.end()

    colours = set(re.findall(r"[34]8;2;(\d+);(\d+);(\d+)", terminal.output))
    assert colours
    assert all(red == green == blue for red, green, blue in colours)
