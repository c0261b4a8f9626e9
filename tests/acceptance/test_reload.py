"""`daebus run --reload`: the service is started again when its code changes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from daebus import DaebusCaller
from fixtures.commands import COMMAND, daebus
from fixtures.processes import Processes
from fixtures.waiting import eventually

CODE = """
from daebus import Daebus

app = Daebus("reloaded")


@app.action("version")
def version():
    return {version!r}
"""


def test_a_change_starts_the_service_again_and_an_error_waits_for_the_next_change(
    tmp_path: Path, processes: Processes, url: str, service_name: str
) -> None:
    code = tmp_path / "service.py"
    code.write_text(CODE.format(version="one"))
    arguments = ["run", "service:app", "--service", service_name, "--reload"]
    process = processes.run([*COMMAND, *arguments], cwd=tmp_path)
    process.wait_for("is ready")
    caller = DaebusCaller(service_name, url, timeout=20.0)
    assert caller.call("version") == "one"

    code.write_text(CODE.format(version="the second"))
    process.wait_for("Changed: service.py")
    eventually(lambda: process.output.count("is ready") == 2, 20.0, lambda: process.output)
    assert caller.call("version") == "the second"

    code.write_text("this is no Python\n")
    process.wait_for("waiting for a change")
    assert "SyntaxError" in process.output
    code.write_text(CODE.format(version="at last"))
    eventually(lambda: process.output.count("is ready") == 3, 20.0, lambda: process.output)
    assert caller.call("version") == "at last"

    caller.close()
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert process.output.count("has stopped") == 3
    assert json.loads(daebus("ps", service_name, "--json").out) == []


def test_without_watchfiles_it_says_what_to_install(tmp_path: Path, processes: Processes) -> None:
    (tmp_path / "service.py").write_text(CODE.format(version=1))
    code = """
        import sys

        sys.modules["watchfiles"] = None
        sys.argv = ["daebus", "run", "service:app", "--reload"]
        from daebus.operate.cli import main

        main()
    """
    process = processes.python(code, cwd=tmp_path)

    assert process.wait() == 2
    assert "pip install 'daebus[reload]'" in process.output
