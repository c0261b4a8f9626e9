"""What the commands tell systemd, on a real socket: ready, alive, stopping."""

from __future__ import annotations

import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.processes import Processes
from fixtures.queue_commands import QUEUE_COMMAND
from fixtures.queues import fill
from fixtures.systemd import Systemd
from fixtures.waiting import eventually
from turbo_queue import Queue

PIPELINE = """
[pipeline]
work = "work:same"
processes = 2

[source]
type = "queue"
queue = "incoming"

[sink]
type = "json-lines"
path = "out.jsonl"
"""

WORK = """
import os


def same(event):
    return {"names": [name for name in os.environ if name.startswith(("NOTIFY", "WATCHDOG"))]}
"""


@pytest.fixture
def systemd(short_path: Path) -> Iterator[Systemd]:
    with Systemd(str(short_path / "notify")) as listening:
        yield listening


@pytest.fixture
def pipeline(tmp_path: Path) -> list[str]:
    """The command of a pipeline that waits for events."""
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "pipeline.toml").write_text(PIPELINE)
    return [*QUEUE_COMMAND, "run", str(tmp_path / "pipeline.toml")]


def test_a_pipeline_is_ready_lives_and_stops(
    systemd: Systemd, pipeline: list[str], processes: Processes
) -> None:
    process = processes.run(pipeline, env=systemd.env(watchdog_s=1.0))

    systemd.wait_for("READY=1")
    status = systemd.wait_for("WATCHDOG=1", 2.0)
    assert status.startswith("STATUS=in 0, out 0, waiting 0, failed 0\n")
    systemd.wait_for("WATCHDOG=1", 2.0)

    process.signal(signal.SIGTERM)
    systemd.wait_for("STOPPING=1")
    assert process.wait() == 0


def test_a_pipeline_that_cannot_start_is_never_ready(
    systemd: Systemd, pipeline: list[str], processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "work.py").write_text("class same:\n def __init__(self): raise OSError('no')")

    process = processes.run(pipeline, env=systemd.env())

    assert process.wait() == 3, process.output
    systemd.drain()
    assert systemd.heard == []


def test_no_other_process_of_a_pipeline_hears_of_systemd(
    systemd: Systemd, pipeline: list[str], processes: Processes, tmp_path: Path
) -> None:
    fill(Queue(tmp_path / "incoming"), [1])
    results = tmp_path / "out.jsonl"

    processes.run(pipeline, env=systemd.env(watchdog_s=60.0, WATCHDOG_PID="1"))

    eventually(lambda: results.exists() and results.read_text() == '{"names":[]}\n')


def test_the_watchdog_of_another_process_is_left_alone(
    systemd: Systemd, pipeline: list[str], processes: Processes
) -> None:
    processes.run(pipeline, env=systemd.env(watchdog_s=0.1, WATCHDOG_PID="1"))

    assert "WATCHDOG" not in systemd.wait_for("STATUS=")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
def test_systemd_may_listen_on_an_abstract_socket(
    pipeline: list[str], processes: Processes
) -> None:
    with Systemd(f"@daebus-{uuid.uuid4().hex}") as systemd:
        processes.run(pipeline, env=systemd.env())

        systemd.wait_for("READY=1")


@pytest.mark.parametrize("address", ["/nobody/listens/here", "vsock:2:1234", "relative", "@"])
def test_nobody_who_listens_is_no_reason_to_fail(
    pipeline: list[str], processes: Processes, tmp_path: Path, address: str
) -> None:
    Queue(tmp_path / "incoming").close()

    process = processes.run(pipeline, env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "often"})

    assert process.wait() == 0, process.output
