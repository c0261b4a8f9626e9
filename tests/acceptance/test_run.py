"""`daebus run`: finding the app, serving it, stopping."""

from __future__ import annotations

import signal
from concurrent.futures import Future
from pathlib import Path

import pytest

from daebus import DaebusCaller
from fixtures.commands import COMMAND, daebus, daebus_each
from fixtures.processes import Processes
from fixtures.waiting import eventually

APP = """
from daebus import Blueprint, Daebus

app = Daebus("from_a_name")
blueprint = Blueprint("handlers")
number = 1


class holder:
    app = Daebus("from_an_attribute")


def make_app():
    return Daebus("from_a_factory")


def make_nothing():
    return None


def make_trouble():
    raise OSError("no such luck")


def needs(something):
    return app


@app.action("add", workers="process")
def add(a: int, b: int) -> int:
    return a + b


@app.listen("events.*")
def on_event(data: dict) -> None: ...


@app.background("tidy", 60)
def tidy() -> None: ...
"""

SLOW = """
import sys
import threading
from pathlib import Path

from daebus import Daebus

app = Daebus("slow")


@app.action("work")
def work() -> str:
    print("in the handler", flush=True)
    while not Path("finish").exists():
        threading.Event().wait(0.01)
    return "done"


@app.on_stop
def bye() -> None:
    print("on_stop was called", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import shop.orders\n\n1 / 0\n")
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_installed\n")
    (tmp_path / "half.py").write_text("def app(:\n")
    (tmp_path / "ends.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "wrong.py").write_text(
        "from daebus import Daebus\napp = Daebus('x')\n@app.background('b', 1)\ndef b(what): ...\n"
    )
    (tmp_path / "missed.py").write_text(
        "from daebus import Daebus\napp = Daebus('x')\n"
        "app.background('b', 1, misfire='run')(lambda: None)\n"
    )
    (tmp_path / "serves.py").write_text("from daebus import Daebus\napp = Daebus('x')\napp.run()\n")
    (tmp_path / "factory.py").write_text(
        "from daebus import Daebus\ndef serve():\n    Daebus('x').run()\n"
    )
    return tmp_path


def test_the_app_is_found_in_the_current_directory(folder: Path) -> None:
    names = {
        "shop.orders:app": "from_a_name",
        "shop.orders": "from_a_name",
        "shop.orders:holder.app": "from_an_attribute",
        "shop.orders:make_app": "from_a_factory",
    }

    ends = daebus_each([["run", target, "--check"] for target in names], folder)

    for name, done in zip(names.values(), ends, strict=True):
        assert (done.code, done.err) == (0, "")
        assert f"The app {name!r} can be served" in done.out


def test_check_tells_what_the_app_has(folder: Path) -> None:
    shown = daebus("run", "shop.orders:app", "--check", cwd=folder).out

    assert "actions: add\n" in shown
    assert "channels: events.*\n" in shown
    assert "background tasks: tidy\n" in shown
    assert "in worker processes: add\n" in shown


TYPOS = {
    "nowhere:app": "there is no module 'nowhere'",
    "shop.nowhere:app": "there is no module 'shop.nowhere'",
    "shop/orders.py": "write module:app, such as shop.orders:app",
    "shop.py:app": "write module:app, such as shop:app",
    ":app": "write module:app",
    "shop.orders:ap": "has no 'ap'. It has: shop.orders:app",
    "shop.orders:holder.ap": "has no 'ap'",
    "shop.orders:number": "is an int, not a Daebus app",
    "shop.orders:needs": "is a function, not a Daebus app",
    "shop.orders:make_nothing": "gave None, not a Daebus app",
    "shop.orders:blueprint": "is a Blueprint, not a Daebus app; register it with an app",
    "wrong:app": "the background task 'b'",
    "missed:app": "misfire='run' needs scope='cluster'",
}


def test_a_typo_is_told_without_a_traceback(folder: Path) -> None:
    ends = daebus_each([["run", target, "--check"] for target in TYPOS], folder)

    for (target, text), done in zip(TYPOS.items(), ends, strict=True):
        assert (target, done.code, done.out) == (target, 2, "")
        assert text in done.err
        assert "Traceback" not in done.err


RAISED = {
    "broken:app": "ZeroDivisionError",
    "needs_more:app": "No module named 'a_package_that_is_not_installed'",
    "half:app": "SyntaxError",
    "ends:app": "SystemExit",
    "shop.orders:make_trouble": "OSError: no such luck",
    "serves:app": """below a line 'if __name__ == "__main__":'""",
    "factory:serve": "app.run() was called while the module was only imported",
}


def test_what_the_users_code_raises_is_shown_from_there_on(folder: Path) -> None:
    ends = daebus_each([["run", target] for target in RAISED], folder)

    for (target, text), done in zip(RAISED.items(), ends, strict=True):
        assert (target, done.code, done.out) == (target, 2, "")
        assert "failed:\n" in done.err
        assert str(folder) in done.err
        assert text in done.err
        assert "loading.py" not in done.err
        assert "importlib" not in done.err


def test_a_stop_lets_the_call_in_flight_finish(
    folder: Path, processes: Processes, url: str, service_name: str
) -> None:
    (folder / "slow.py").write_text(SLOW)
    arguments = ["run", "slow:app", "--service", service_name]
    process = processes.run([*COMMAND, *arguments], cwd=folder)
    process.wait_for("is ready")

    with DaebusCaller(service_name, url, timeout=20.0) as caller:
        answer: Future[str] = caller.submit("work")
        process.wait_for("in the handler")
        process.signal(signal.SIGTERM)
        eventually(lambda: caller.send_message("work") == 0, what="it still takes messages")
        assert process.is_running
        (folder / "finish").touch()

        assert answer.result() == "done"
    assert process.wait() == 0
    assert "on_stop was called" in process.output
    assert f"service '{service_name}' has stopped" in process.output


def test_the_grace_time_ends_a_stop(
    folder: Path, processes: Processes, url: str, service_name: str
) -> None:
    (folder / "slow.py").write_text(SLOW)
    arguments = ["run", "slow:app", "--service", service_name, "--grace", "0.2"]
    process = processes.run([*COMMAND, *arguments], cwd=folder)
    process.wait_for("is ready")

    with DaebusCaller(service_name, url) as caller:
        caller.send_message("work")
        process.wait_for("in the handler")
        process.signal(signal.SIGINT)

        assert process.wait() == 0
    assert "1 messages were cut off after 0.2 s" in process.output


def test_options_stand_above_the_environment_and_below_the_code(
    folder: Path, processes: Processes, url: str, service_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEBUS_URL", "redis://localhost:1")
    monkeypatch.setenv("DAEBUS_MAX_WORKERS", "3")
    (folder / "fixed.py").write_text("from daebus import Daebus\napp = Daebus('x', grace=1.0)\n")
    options = ["--service", service_name, "--url", url, "--workers", "7", "--grace", "2"]
    options += ["--overflow", "reject", "--processes", "3", "--spool", "here"]
    process = processes.run([*COMMAND, "run", "fixed:app", *options], cwd=folder)

    process.wait_for("is ready")

    assert "7 workers" in process.output
    assert "--grace has no effect" in process.output
    assert process.output.count("has no effect") == 1


def test_every_option_reaches_the_app(folder: Path) -> None:
    (folder / "tells.py").write_text(
        "from daebus import Daebus\napp = Daebus('x')\nused = app._settings\n"
        "print(used.max_workers, used.processes, used.delivery, used.overflow, used.spool)\n"
    )
    options = ["--workers", "7", "--processes", "3", "--delivery", "stream"]

    done = daebus(
        "run", "tells:app", "--check", *options, "--overflow", "reject", "--spool", "in", cwd=folder
    )

    assert done.out.splitlines()[0] == f"7 3 stream reject {folder / 'in'}"
    assert "has no effect" not in done.err


def test_the_log_level_is_kept(
    folder: Path, processes: Processes, url: str, service_name: str
) -> None:
    options = ["--service", service_name, "--log-level", "warning"]
    process = processes.run([*COMMAND, "run", "shop.orders:app", *options], cwd=folder)

    eventually(lambda: daebus("ps", service_name).code == 0, 20.0)
    process.signal(signal.SIGTERM)

    assert process.wait() == 0
    assert process.output == ""


def test_a_server_that_cannot_be_reached_ends_with_3(folder: Path) -> None:
    done = daebus("run", "shop.orders:app", "--url", "redis://:secret@localhost:1", cwd=folder)

    assert done.code == 3
    assert "cannot use the server at redis://:***@localhost:1" in done.err
    assert "Traceback" not in done.err


def test_what_on_start_raises_ends_with_1_and_its_traceback(folder: Path, url: str) -> None:
    (folder / "fails.py").write_text(
        "from daebus import Daebus\napp = Daebus('fails')\n"
        "@app.on_start\ndef open_files():\n    raise OSError('no such luck')\n"
    )

    done = daebus("run", "fails:app", cwd=folder)

    assert done.code == 1
    assert "in open_files" in done.err
    assert "OSError: no such luck" in done.err
