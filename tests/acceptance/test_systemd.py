"""What the commands tell systemd, on a real socket: ready, alive, stopping."""

from __future__ import annotations

import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daebus import DaebusCaller
from daebus.bus.embedded import EmbeddedServer
from fixtures.commands import COMMAND
from fixtures.processes import Process, Processes
from fixtures.queue_commands import QUEUE_COMMAND
from fixtures.queues import fill
from fixtures.systemd import Systemd
from fixtures.waiting import eventually
from turbo_queue import Queue

Service = Callable[[dict[str, str]], Process]

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


SERVICE = """
import os
import threading

from daebus import Daebus

app = Daebus("service", max_workers=1)


@app.action("add")
def add(a: int, b: int) -> int:
    return a + b


@app.action("stuck")
def stuck():
    threading.Event().wait()


@app.action("wait_for_file")
def wait_for_file():
    pause = threading.Event()
    while not os.path.exists("go"):
        pause.wait(0.01)
    return True


@app.action("names", workers="process")
def names():
    return [name for name in os.environ if name.startswith(("NOTIFY", "WATCHDOG"))]
"""


@pytest.fixture
def service(tmp_path: Path, url: str, service_name: str, processes: Processes) -> Service:
    """Starts the service above with `daebus run`."""
    (tmp_path / "service.py").write_text(SERVICE)
    command = [*COMMAND, "run", "service:app", "--service", service_name]

    def run(env: dict[str, str]) -> Process:
        return processes.run(command, env={"DAEBUS_URL": url, **env}, cwd=tmp_path)

    return run


def test_a_service_is_ready_lives_and_stops(
    systemd: Systemd, service: Service, service_name: str
) -> None:
    process = service(systemd.env(watchdog_s=1.0))

    systemd.wait_for("READY=1")
    assert "is ready at" in process.output
    with DaebusCaller(service_name) as caller:
        assert caller.call("add", {"a": 1, "b": 2}) == 3
    status = systemd.wait_for("STATUS=1 handled, 0 errors, 0 in progress, 0 waiting", 3.0)
    assert status.endswith("\nWATCHDOG=1")

    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_stop_is_told_when_it_begins(
    systemd: Systemd, service: Service, service_name: str, tmp_path: Path
) -> None:
    process = service(systemd.env(watchdog_s=1.0))
    systemd.wait_for("READY=1")
    with DaebusCaller(service_name) as caller:
        future = caller.submit("wait_for_file")
        systemd.wait_for("1 in progress")

        process.signal(signal.SIGTERM)
        systemd.wait_for("STOPPING=1")
        assert "WATCHDOG=1" in systemd.wait_for("it is stopping; 0 handled")

        (tmp_path / "go").touch()
        assert future.result(10) is True
    assert process.wait() == 0


def test_a_service_that_cannot_start_is_never_ready(systemd: Systemd, service: Service) -> None:
    process = service(systemd.env(DAEBUS_URL="redis://127.0.0.1:1"))

    assert process.wait() == 3, process.output
    systemd.drain()
    assert systemd.heard == []


def test_a_service_whose_handlers_are_stuck_does_not_say_that_it_lives(
    systemd: Systemd, service: Service, service_name: str
) -> None:
    process = service(systemd.env(watchdog_s=1.0, DAEBUS_MAX_STALL="0.5", DAEBUS_GRACE="0.5"))
    systemd.wait_for("WATCHDOG=1")

    with DaebusCaller(service_name) as caller:
        for _ in range(2):
            caller.send_message("stuck")
    status = systemd.wait_for("none was finished")

    assert "WATCHDOG" not in status
    assert "1 in progress, 1 waiting" in status
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.output


def test_a_lost_server_is_no_reason_to_be_restarted(
    systemd: Systemd, service: Service, own_server: EmbeddedServer
) -> None:
    service(systemd.env(watchdog_s=1.0, DAEBUS_URL=own_server.url))
    systemd.wait_for("READY=1")

    own_server.stop()

    assert "WATCHDOG=1" in systemd.wait_for("it is not connected")


def test_no_other_process_of_a_service_hears_of_systemd(
    systemd: Systemd, service: Service, service_name: str
) -> None:
    service(systemd.env(watchdog_s=60.0))
    systemd.wait_for("READY=1")

    with DaebusCaller(service_name) as caller:
        assert caller.call("names") == []


def test_an_app_inside_another_program_leaves_systemd_alone(
    systemd: Systemd, url: str, processes: Processes
) -> None:
    program = """
    from daebus import Daebus
    app = Daebus("inside")
    app.start()
    app.stop()
    """

    assert processes.python(program, env=systemd.env(DAEBUS_URL=url)).wait() == 0
    systemd.drain()
    assert systemd.heard == []
