"""The files of `examples/deploy`: systemd takes the units, and what they start serves."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daebus import DaebusCaller
from fixtures.processes import Process, Processes
from fixtures.queues import fill
from fixtures.systemd import Systemd
from fixtures.waiting import eventually
from turbo_queue import Queue
from turbo_queue.pipeline.condition import STUCK_S

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"

SERVICE = """
from daebus import Daebus

app = Daebus("unnamed")


@app.action("add")
def add(a: int, b: int) -> int:
    return a + b
"""

PIPELINE = """
[pipeline]
work = "work:same"
processes = 1

[source]
type = "queue"
queue = "incoming"

[sink]
type = "json-lines"
path = "out.jsonl"
"""

#: What systemd replaces in a command (systemd.service(5)).
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@pytest.fixture
def systemd(short_path: Path) -> Iterator[Systemd]:
    with Systemd(str(short_path / "notify")) as listening:
        yield listening


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """Stands for `/srv`: has a service and a pipeline, each with the environment of the tests."""
    for name in ("calculator", "orders"):
        commands = tmp_path / name / ".venv" / "bin"
        commands.mkdir(parents=True)
        for command, module in (("daebus", "daebus"), ("turbo-queue", "turbo_queue")):
            (commands / command).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"')
            (commands / command).chmod(0o755)
    (tmp_path / "calculator" / "calculator.py").write_text(SERVICE)
    (tmp_path / "orders" / "orders.toml").write_text(PIPELINE)
    (tmp_path / "orders" / "work.py").write_text("def same(event):\n    return event\n")
    return tmp_path


def unit_of(name: str, instance: str, srv: Path) -> dict[str, list[str]]:
    """The settings of an instance of a unit, each with all its values."""
    text = (DEPLOY / name).read_text().replace("%i", instance).replace("/srv", str(srv))
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


Start = Callable[..., Process]


@pytest.fixture
def start(processes: Processes, systemd: Systemd, srv: Path) -> Start:
    """Start a unit's program as systemd would."""

    def start_unit(name: str, instance: str, **env: str) -> Process:
        unit = unit_of(name, instance, srv)
        [command], [folder] = unit["ExecStart"], unit["WorkingDirectory"]
        known = dict(line.split("=", 1) for line in unit.get("Environment", []))
        known |= {"STATE_DIRECTORY": str(srv / "state"), **systemd.env(watchdog_s=30.0), **env}
        words = [
            _VARIABLE.sub(lambda found: known[found[1]], word) for word in shlex.split(command)
        ]
        return processes.run(words, env=known, cwd=Path(folder))

    return start_unit


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
@pytest.mark.parametrize("name", ["daebus@calculator", "turbo-queue@orders"])
def test_systemd_takes_the_unit(srv: Path, name: str) -> None:
    for unit in DEPLOY.glob("*.service"):
        (srv / unit.name).write_text(unit.read_text().replace("/srv", str(srv)))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", srv / f"{name}.service"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_of_a_service_serves(start: Start, systemd: Systemd, url: str) -> None:
    process = start("daebus@.service", "calculator", DAEBUS_URL=url)
    systemd.wait_for("READY=1")

    with DaebusCaller("calculator") as caller:
        assert caller.call("add", {"a": 1, "b": 2}) == 3
    process.signal(signal.SIGTERM)

    assert process.wait() == 0, process.output


def test_what_stays_wrong_is_not_started_again(start: Start, srv: Path) -> None:
    process = start("daebus@.service", "calculator", APP="calculator:nothing")

    code = process.wait()

    [not_after] = unit_of("daebus@.service", "calculator", srv)["RestartPreventExitStatus"]
    assert str(code) in not_after.split()


def test_the_unit_of_a_pipeline_works_in_its_own_folder(
    start: Start, systemd: Systemd, srv: Path
) -> None:
    fill(Queue(srv / "orders" / "incoming"), [1, 2])

    process = start("turbo-queue@.service", "orders")
    systemd.wait_for("READY=1")
    eventually(lambda: "2" in (srv / "orders" / "out.jsonl").read_text())
    process.signal(signal.SIGTERM)

    assert process.wait() == 0, process.output
    assert (srv / "state" / "orders" / "dead").is_dir()


def test_the_container_serves_and_knows_whether_it_is_healthy(
    srv: Path, processes: Processes, url: str
) -> None:
    text = (DEPLOY / "Containerfile").read_text()
    serve, check = (
        json.loads(words) for words in re.findall(r"^(?:HEALTH.*)?CMD (.*)$", text, re.MULTILINE)
    )
    given = dict(re.findall(r"(DAEBUS_\w+)=([^\s\\]+)", text.partition("\nENV ")[2]))
    assert given.keys() == {"DAEBUS_SPOOL", "DAEBUS_METRICS_PORT"}
    env = {"DAEBUS_URL": url, "DAEBUS_METRICS_PORT": "0"}
    env["PATH"] = f"{srv}/calculator/.venv/bin{os.pathsep}{os.environ['PATH']}"
    service = processes.run(["env", *serve], env=env, cwd=srv / "calculator")
    service.wait_for("is ready")
    [port] = re.findall(r"probes are at http://127.0.0.1:(\d+)", service.output)
    env["DAEBUS_METRICS_PORT"] = port

    assert processes.run(["env", *check], env=env).wait() == 0
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert processes.run(["env", *check], env=env).wait() == 1


@pytest.mark.parametrize("name", ["daebus@.service", "turbo-queue@.service"])
def test_systemd_waits_longer_than_the_grace_time(name: str, srv: Path) -> None:
    [timeout_s] = unit_of(name, "any", srv)["TimeoutStopSec"]

    assert float(timeout_s) > 10.0 + 1.0


def test_the_watchdog_of_a_pipeline_gives_it_up_when_its_probe_does(srv: Path) -> None:
    [watchdog_s] = unit_of("turbo-queue@.service", "any", srv)["WatchdogSec"]

    assert float(watchdog_s) == STUCK_S


def test_the_settings_of_the_example_are_known() -> None:
    names = re.findall(r"^#?(DAEBUS_\w+)=", (DEPLOY / "service.env").read_text(), re.MULTILINE)
    documented = (DEPLOY.parents[1] / "docs" / "reference" / "configuration.md").read_text()

    assert names
    assert all(f"`{name}`" in documented for name in names)
