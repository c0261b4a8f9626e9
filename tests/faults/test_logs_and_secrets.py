"""What comes from outside cannot forge a log entry, and no password is ever shown (F20, S6)."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from pathlib import Path

import pytest

from daebus import Daebus, DaebusCaller, DaebusError
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.presence import find_replicas
from fixtures import services, wire
from fixtures.processes import Processes

NASTY = "x\n2026-01-01 00:00:00,000 ERROR   daebus.app  forged\r\n\x1b[31mred\x1b[0m\u2028end"

PROGRAM = """
import sys
from daebus import *
app = Daebus("app")

@app.action("fail")
def fail():
    raise ValueError(request.payload)

@app.action("log")
def log():
    logger.info("payload: %s", request.payload)
    direct_logger.warning(f"payload: {request.payload}")

app.run(sys.argv[1], debug=True)
"""

#: Its processes start once, and cannot be replaced.
WITHOUT_PROCESSES = """
import os, sys
from daebus import *
app = Daebus("app", processes=1)

@app.on_worker_start
def load():
    os.mkdir(sys.argv[2])

@app.action("die", workers="process")
def die():
    os._exit(3)

if __name__ == "__main__":
    app.run(sys.argv[1])
"""

ENTRY = r"\d{4}-\d\d-\d\d [\d:,]{12} [A-Z]+ +(daebus|turbo_queue)\."


def test_every_line_of_the_log_is_an_entry_or_part_of_a_traceback(
    url: str, server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    service = processes.python(PROGRAM, service_name, env={"DAEBUS_URL": url})
    service.wait_for("is ready at")
    with DaebusCaller(service_name, url) as caller:
        for _ in range(20):
            caller.send_request("fail", NASTY)
            caller.send_request("log", NASTY)
        for action in (NASTY, "x" * 1_000_000, "\x00"):
            for reply_to in (NASTY, "caller_x"):
                message = {"action": action, "reply_to": reply_to, "request_id": NASTY}
                wire.publish(server.socket_path, service_name, json.dumps(message).encode())
        wire.publish(server.socket_path, service_name, NASTY.encode())
        assert caller.call("log", "end") is None
    service.signal(15)
    service.wait()

    entries = [line for line in service.output.split("\n") if line]
    assert len(entries) > 100
    for line in entries:
        is_traceback = line.startswith("  | ")
        assert is_traceback or re.match(ENTRY, line), line
        assert is_traceback or "daebus.app  forged" not in line[:60]
        assert "\x1b" not in line
        assert "\u2028" not in line
        assert len(line) < 12_000
    assert "ValueError: x\\n2026" in service.output


def test_what_a_queue_and_its_processes_say_is_an_entry_of_the_services_log(
    url: str, service_name: str, processes: Processes, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_PROCESSES)
    command = [sys.executable, str(program), service_name, str(tmp_path / NASTY)]
    service = processes.run(command, env={"DAEBUS_URL": url})
    service.wait_for("is ready at")

    with DaebusCaller(service_name, url) as caller:
        caller.send_message("die")
    service.wait_for("before it was ready; trying again")
    service.signal(15)
    service.wait()

    assert " turbo_queue.workers  " in service.output
    for line in service.output.splitlines():
        assert line.startswith("  | ") or re.match(ENTRY, line), line


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cr3t@127.0.0.1:1/0",
        "redis://:s3cr3t@127.0.0.1:1",
        "rediss://user:s3cr3t@127.0.0.1:1",
        "redis://user:s3cr3t@127.0.0.1:notaport",
        "redis://user:s3cr3t/more@127.0.0.1:1",
        "redis://127.0.0.1:1?password=s3cr3t",
    ],
)
def test_no_error_log_or_repr_shows_a_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    for use in (
        lambda: call_and_close(url),
        lambda: Daebus("app", url=url).start("svc"),
        lambda: find_replicas(url),
    ):
        with pytest.raises(DaebusError) as raised:
            use()
        shown += [str(raised.value), repr(raised.value), repr(vars(raised.value))]
        shown += traceback.format_exception(raised.value)
    shown.append(caplog.text)

    assert "s3cr3t" not in "\n".join(shown)


def call_and_close(url: str) -> None:
    with DaebusCaller("svc", url) as caller:
        caller.call("x", timeout=2)


def test_a_refused_password_is_told_without_it(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    url = own_server.url.replace("unix://", "unix://nobody:s3cr3t@")

    service = processes.python(services.PROGRAM, service_name, "{}", env={"DAEBUS_URL": url})

    assert service.wait() != 0
    assert "it refuses the user or password" in service.output
    assert "s3cr3t" not in service.output
