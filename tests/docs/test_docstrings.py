"""The examples in the docstrings of turbo_queue, and of all connectors, run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import daebus.connectors
import turbo_queue.connectors
from fixtures.queues import fill
from turbo_queue import Queue

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(turbo_queue.__path__, "turbo_queue.")
    if module.name != "turbo_queue.__main__" and not module.name.startswith("turbo_queue.operate")
]
MODULES += [
    importlib.import_module(f"{package.__name__}.{module.name}")
    for package in (turbo_queue.connectors, daebus.connectors)
    for module in pkgutil.iter_modules(package.__path__)
]

EXAMPLES = [
    example
    for module in MODULES
    for example in doctest.DocTestFinder().find(module)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_example_runs(
    example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Queue(tmp_path / "queue"), [1, 2, 3])
    names = {"folder": str(tmp_path / "queue"), "another_folder": str(tmp_path / "another")}
    example.globs.update(vars(turbo_queue) | names)

    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize(
    "public",
    ["Batch", "Consumer", "DeadBatches", "Dequeue", "Enqueue", "Producer.put", "Queue", "Startup"],
)
def test_what_users_call_has_an_example(public: str) -> None:
    assert any(example.name.endswith(f".{public}") for example in EXAMPLES)


def test_no_module_is_forgotten() -> None:
    assert all(isinstance(module, ModuleType) for module in MODULES)
    assert len(MODULES) > 40
