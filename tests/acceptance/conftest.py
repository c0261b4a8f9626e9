"""A service that `daebus run` serves, for the commands that need one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from daebus.bus.embedded import EmbeddedServer
from fixtures.commands import COMMAND
from fixtures.processes import Processes

CODE = """
import threading

from daebus import Daebus, logger, response

app = Daebus("unnamed")
go_on = threading.Event()


@app.action("add")
def add(a: int, b: int = 0) -> int:
    return a + b


@app.action("echo")
def echo() -> object:
    return app.request.payload


@app.action("fail")
def fail():
    raise ValueError("no such luck")


@app.action("two_steps")
def two_steps() -> str:
    response.send({"step": 1}, final=False)
    go_on.wait(20)
    return "done"


@app.action("go_on")
def let_go_on():
    go_on.set()


@app.action("never")
def never():
    threading.Event().wait(20)
"""


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for temporary files whose path leaves room for that of a socket, unlike tmp_path."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def service(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a service that runs in a process of its own."""
    folder: Path = tmp_path_factory.mktemp("service")
    (folder / "service.py").write_text(CODE)
    name = f"svc_{uuid.uuid4().hex[:12]}"
    with Processes() as processes:
        process = processes.run(
            [*COMMAND, "run", "service:app", "--service", name, "--url", server.url], cwd=folder
        )
        process.wait_for("is ready")
        yield name
