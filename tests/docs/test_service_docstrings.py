"""The examples in the docstrings of daebus run, with the services that they speak of."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import daebus
from daebus import Daebus, DaebusCaller, ServiceUnavailable, broadcast, response
from fixtures.waiting import eventually

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(daebus.__path__, "daebus.")
    if not module.name.endswith("__main__") and "connectors" not in module.name
]

EXAMPLES = {
    example.name: example
    for module in MODULES
    for example in doctest.DocTestFinder().find(module)
    if example.examples
}

#: It ends with `app.run()`.
SERVES = EXAMPLES.pop("daebus.service.app.Daebus")


@pytest.fixture
def running(url: str) -> Iterator[Daebus]:
    """The services `calculator` and `reports` of the examples."""
    apps = {name: Daebus(name) for name in ("calculator", "reports")}
    apps["calculator"].action("add")(_add)

    @apps["reports"].action("build")
    def build() -> str:
        response.send(50, final=False)
        return "done"

    for app in apps.values():
        app.start()
    yield apps["calculator"]
    for app in apps.values():
        app.stop()
    broadcast.close()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(
    name: str, running: Daebus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = EXAMPLES[name]
    monkeypatch.chdir(tmp_path)
    is_about_running = name.endswith((".stats", ".health", ".contract"))
    with DaebusCaller("calculator") as calculator, DaebusCaller("reports") as reports:
        names: dict[str, Any] = {"calculator": calculator, "reports": reports}
        names["app"] = running if is_about_running else _app()
        names["contract"] = running.contract()
        example.globs = vars(daebus) | {"Path": Path} | example.globs | names

        assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.usefixtures("own_logging")
def test_the_example_of_a_service_serves_until_it_is_told_to_stop(url: str) -> None:
    def call_and_stop() -> None:
        with DaebusCaller("calculator", timeout=1) as calculator:
            eventually(lambda: _answer(calculator) == 3, 20)
        os.kill(os.getpid(), signal.SIGTERM)

    calling = threading.Thread(target=call_and_stop)
    calling.start()
    SERVES.globs.update(vars(daebus))
    assert doctest.DocTestRunner().run(SERVES).failed == 0
    calling.join()


@pytest.mark.parametrize("public", ["Blueprint", "Broadcast", "DaebusCaller", "Lease"])
def test_what_users_call_has_an_example(public: str) -> None:
    assert any(name.endswith(f".{public}") for name in EXAMPLES)


def _add(a: int, b: int) -> int:
    return a + b


def _answer(calculator: DaebusCaller) -> object:
    try:
        return calculator.call("add", {"a": 1, "b": 2})
    except ServiceUnavailable:
        return None


def _app() -> Daebus:
    """An app that takes handlers."""
    app = Daebus("app")
    app.action("sum")(_add)
    return app
