"""`daebus ps`: who is alive."""

from __future__ import annotations

import json
import re
import signal

import pytest

from fixtures.commands import COMMAND, daebus, daebus_on_a_terminal
from fixtures.processes import Processes

pytestmark = pytest.mark.usefixtures("url")


def test_a_line_for_each_replica(service: str) -> None:
    done = daebus("ps", service)

    header, line = done.out.splitlines()
    assert " ".join(header.split()) == (
        "SERVICE REPLICAS HOST PID UPTIME IN PROGRESS BACKLOG HANDLED ERRORS GAPS ACTIONS"
    )
    assert line.split()[:2] == [service, "1"]
    assert "add, echo, fail" in line


def test_with_json_it_is_an_array(service: str) -> None:
    daebus("call", service, "add", '{"a": 1}')

    (replica,) = json.loads(daebus("ps", service, "--json").out)

    assert replica["service"] == service
    assert replica["actions"] == ["add", "echo", "fail", "go_on", "never", "two_steps"]
    assert replica["max_workers"] == 10
    for figure in ("handled", "errors", "in_progress", "backlog", "gaps"):
        assert replica[figure] >= 0


def test_a_service_that_is_not_alive_ends_with_1() -> None:
    plain, as_json = daebus("ps", "nobody"), daebus("ps", "nobody", "--json")

    assert (plain.code, as_json.code) == (1, 1)
    assert "No service 'nobody' is alive" in plain.out
    assert json.loads(as_json.out) == []


def test_the_table_fits_a_terminal(service: str) -> None:
    shown = daebus_on_a_terminal("ps", service)

    assert "HANDLED" in shown
    widths = [len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown.splitlines()]
    assert max(widths) <= 100


def test_watch_looks_again_until_a_signal(service: str, processes: Processes) -> None:
    watcher = processes.run([*COMMAND, "ps", service, "--watch", "--json"])

    watcher.wait_for("]\n[")
    watcher.signal(signal.SIGINT)

    assert watcher.wait() == 0
    assert {json.loads(line)[0]["service"] for line in watcher.lines} == {service}
