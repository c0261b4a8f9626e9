"""`daebus ps`: who is alive."""

from __future__ import annotations

import json
import re
import signal

import pytest

from fixtures.commands import COMMAND, daebus, daebus_on_a_terminal
from fixtures.processes import Processes
from fixtures.waiting import eventually

pytestmark = pytest.mark.usefixtures("url")


def test_a_line_for_each_replica(service: str) -> None:
    done = daebus("ps", service)

    header, line = done.out.splitlines()
    assert " ".join(header.split()) == (
        "SERVICE REPLICAS HOST PID UPTIME IN PROGRESS BACKLOG SPILLED HANDLED ERRORS GAPS "
        "DELIVERY ACTIONS"
    )
    assert line.split()[:2] == [service, "1"]
    assert "add, echo, fail" in line


def test_with_json_it_is_an_array(service: str) -> None:
    daebus("call", service, "add", '{"a": 1}')

    (replica,) = json.loads(daebus("ps", service, "--json").out)

    assert replica["service"] == service
    assert replica["actions"] == ["add", "echo", "fail", "go_on", "never", "two_steps"]
    assert replica["max_workers"] == 10
    for figure in ("handled", "errors", "in_progress", "backlog", "spilled", "gaps"):
        assert replica[figure] >= 0
    assert replica["delivery"] == "pubsub"
    assert replica["tasks"] == {}


def test_the_last_run_of_each_background_task_is_shown(
    url: str, service_name: str, processes: Processes
) -> None:
    code = """
        import sys, threading
        from daebus import Daebus
        app = Daebus("x")
        app.background("tidy", 0.2, scope="cluster")(lambda: None)
        app.background("wrong", 0.2)(lambda: 1 / 0)
        app.background("slow", 0.2)(lambda: threading.Event().wait())
        app.run(sys.argv[1])
    """
    for _ in range(2):
        processes.python(code, service_name).wait_for("is ready")

    def runs() -> list[list[str]]:
        tables = daebus("ps", service_name).out.split("\n\n")
        return [line.split() for line in tables[1].splitlines()] if len(tables) > 1 else []

    eventually(lambda: len(runs()) == 4)
    header, slow, tidy, wrong = runs()
    assert " ".join(header) == "SERVICE BACKGROUND TASK LAST RUN TOOK BY RESULT"
    assert (slow[1], slow[-2:]) == ("slow", ["under", "way"])
    assert (tidy[1], tidy[-1]) == ("tidy", "ok")
    assert (wrong[1], wrong[-4:]) == ("wrong", ["ZeroDivisionError:", "division", "by", "zero"])


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


def test_who_is_not_ready_is_told_with_the_reason(
    url: str, service_name: str, processes: Processes
) -> None:
    code = """
        import sys, threading
        from daebus import Daebus
        app = Daebus("x", grace=30)
        go_on = threading.Event()
        app.action("wait")(lambda: go_on.wait(30))
        app.run(sys.argv[1])
    """
    process = processes.python(code, service_name)
    process.wait_for("is ready")
    daebus("send", service_name, "wait")
    process.signal(signal.SIGTERM)

    eventually(lambda: "is not ready: it is stopping" in daebus("ps", service_name).out)
    process.kill()
