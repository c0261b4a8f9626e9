"""The pytest plugin, as the tests of a user's own project have it."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daebus.bus.embedded import EmbeddedServer
from fixtures.processes import Process, Processes
from fixtures.waiting import eventually

CODE = """
import os

from daebus import Daebus, DaebusCaller, broadcast, request

app = Daebus("calculator", url="redis://server.of.production:6379", spool="production")


@app.action("add")
def add(a: int, b: int) -> int:
    return a + b


@app.action("publish")
def publish():
    return broadcast.send("sums.new", request.payload)


@app.action("process", workers="process")
def process() -> int:
    return os.getpid()


@app.action("ask")
def ask():
    with DaebusCaller("billing") as billing:
        return billing.call("price")
"""

Run = Callable[..., Process]


@pytest.fixture
def run(processes: Processes, tmp_path: Path) -> Run:
    """Run `pytest` over a user's tests of the service above."""

    def run_tests(tests: str, *options: str, env: dict[str, str] | None = None) -> Process:
        (tmp_path / "calculator.py").write_text(CODE)
        (tmp_path / "test_calculator.py").write_text(tests)
        # The plugin is named, so that these tests do not depend on how daebus was installed.
        autoload = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HOME": str(tmp_path), **(env or {})}
        # As in our own tests: worker processes are started by fork where that is the default.
        warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
        command = [sys.executable, "-m", "pytest", "-p", "pytest_daebus", *warnings, *options]
        return processes.run(command, env=autoload, cwd=tmp_path)

    return run_tests


def test_a_user_tests_a_service_in_two_lines(run: Run, tmp_path: Path) -> None:
    tests = run("""
import os
from pathlib import Path
import pytest
from daebus import Daebus
from calculator import app

@pytest.mark.parametrize("b", range(3))
def test_the_same_app_again_and_again(daebus_app, b):
    assert daebus_app(app).call("add", {"a": 1, "b": b}) == 1 + b

def test_worker_processes(daebus_app):
    assert daebus_app(app).call("process") != os.getpid()

def test_what_is_published(daebus_app, daebus_listen):
    heard = daebus_listen("sums.*")
    caller = daebus_app(app)
    assert [caller.call("publish", number) for number in range(3)] == [1, 1, 1]
    assert [heard.get(timeout=5) for _ in range(3)] == [("sums.new", n) for n in range(3)]

def test_two_services(daebus_app):
    billing = Daebus("double")
    billing.action("price")(lambda: 7)
    daebus_app(billing, "billing")
    assert daebus_app(app).call("ask") == 7

def test_the_server(daebus_server):
    assert os.environ["DAEBUS_URL"] == daebus_server.url
    Path("url").write_text(daebus_server.url)
""")

    assert tests.wait() == 0, tests.output
    assert "7 passed" in tests.output
    socket_path = Path((tmp_path / "url").read_text().removeprefix("unix://"))
    assert not socket_path.exists(), "the server still runs"
    assert not (tmp_path / "production").exists(), "files are where production has them"
    assert not (tmp_path / ".local").exists(), "files are where production has them"


def test_what_fails_at_a_stop_is_told_and_everything_else_stops(run: Run) -> None:
    tests = run("""
from daebus import Daebus
from daebus.bus.presence import find_replicas

def test_one(daebus_app):
    bad = Daebus("bad")
    @bad.on_stop
    def fail():
        raise ZeroDivisionError("on purpose")
    daebus_app(Daebus("first"))
    daebus_app(bad)
    daebus_app(Daebus("last"))

def test_nothing_runs(daebus_server):
    assert find_replicas(daebus_server.url) == []
""")

    assert tests.wait() == 1
    assert "2 passed, 1 error" in tests.output
    assert "ZeroDivisionError: on purpose" in tests.output


def test_the_same_tests_run_on_another_server(run: Run, server: EmbeddedServer) -> None:
    tests = run(
        """
import os
from calculator import app

def test_add(daebus_app):
    assert os.environ["DAEBUS_URL"] == os.environ["EXPECTED"]
    assert daebus_app(app).call("add", {"a": 1, "b": 2}) == 3
""",
        f"--daebus-url={server.url}",
        env={"EXPECTED": server.url},
    )

    assert tests.wait() == 0, tests.output


def test_several_services_run_where_the_environment_has_the_port_of_one(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        tests = run(
            """
from daebus import Daebus

def test_two(daebus_app, daebus_listen):
    daebus_listen("sums.*")
    daebus_app(Daebus("double"))
""",
            env={"DAEBUS_METRICS_PORT": port},
        )

        assert tests.wait() == 0, tests.output


def test_what_is_no_address_is_told_with_its_option(run: Run) -> None:
    tests = run("def test(daebus_server): pass", "--daebus-url=localhost")

    assert tests.wait() == 1
    assert "--daebus-url: localhost is no server address" in tests.output
    assert "redis://" in tests.output


def test_a_killed_run_leaves_no_server(run: Run, tmp_path: Path) -> None:
    tests = run(
        """
import threading
from calculator import app

def test_for_ever(daebus_app, daebus_server):
    daebus_app(app)
    print("socket:", daebus_server.url.removeprefix("unix://"))
    threading.Event().wait(60)
""",
        "-s",
    )
    tests.wait_for("socket: /")
    line = next(line for line in tests.lines if "socket: " in line)
    socket_path = Path(line.split("socket: ")[1].strip())
    assert socket_path.exists()

    tests.signal(signal.SIGKILL)

    eventually(lambda: not socket_path.exists())


def test_a_project_that_does_not_use_it_does_not_pay_for_it(run: Run) -> None:
    tests = run("""
import sys

def test():
    assert "pytest_daebus" in sys.modules
    assert not {"daebus", "turbo_queue", "redis", "msgspec"} & set(sys.modules)
""")

    assert tests.wait() == 0, tests.output
