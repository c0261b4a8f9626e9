"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import daebus
import turbo_queue
from turbo_queue import errors as queue_errors

SOURCES = {"daebus": Path(daebus.__file__).parent, "turbo_queue": Path(turbo_queue.__file__).parent}
MODULES = sorted(path for source in SOURCES.values() for path in source.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", [daebus, turbo_queue])
def test_the_promised_names_are_those_that_are_visible(package: ModuleType) -> None:
    folder = Path(str(package.__file__)).parent
    modules = {path.stem for path in folder.iterdir()}
    classic = {"enqueue", "dequeue", "startup"}  # Spellings of turbo-queue's own README.
    visible = {name for name in vars(package) if not name.startswith("_")} - modules

    assert set(package.__all__) == visible
    assert [name for name in package.__all__ if name not in classic] == sorted(
        set(package.__all__) - classic
    )


@pytest.mark.parametrize("package", SOURCES)
def test_importing_has_no_effect(tmp_path: Path, package: str) -> None:
    tmp_path.chmod(0o500)
    program = f"""
import logging, os, threading
before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
import {package}
after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
assert threading.active_count() == 1, threading.enumerate()
assert not logging.getLogger().handlers and not logging.getLogger("{package}").handlers
assert len(after) == len(before), (before, after)
assert os.listdir(".") == []
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    tmp_path.chmod(0o700)


def test_only_settings_reads_the_environment() -> None:
    readers = {
        path.name
        for path in MODULES
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }

    assert readers == {"settings.py"}


def test_only_the_folder_renames_and_unlinks_batches() -> None:
    movers = {
        path.name
        for path in SOURCES["turbo_queue"].glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"rename", "renames", "unlink", "remove", "rmtree"}
        and not (isinstance(node.value, ast.Attribute) and node.value.attr == "_folder")
        and not (isinstance(node.value, ast.Name) and node.value.id == "folder")
    }

    assert movers == {"folder.py"}


def _all_errors(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _all_errors(child))]


EXAMPLES = [
    queue_errors.SettingsError("x is 1"),
    queue_errors.BadEvent("no"),
    queue_errors.EventTooLarge(5, 4),
    queue_errors.QueueFull("/q", 3),
    queue_errors.QueueEmpty("/q"),
    queue_errors.QueueClosed("closed"),
    queue_errors.BatchSettled("ready_1"),
    queue_errors.BatchDamaged("cut off"),
    queue_errors.BatchNotFound("dead_1"),
    queue_errors.WorkerFailed("it ended"),
    queue_errors.PipelineFailed("no source"),
    queue_errors.SourceFailed("no broker"),
    queue_errors.SinkFailed("no broker"),
    queue_errors.SinkGone("whoever read stdout has gone"),
    queue_errors.SinkRefused(3, "too large"),
    queue_errors.FolderFailed("writing", "/q", OSError(28, "No space left on device"), "Kept."),
    queue_errors.FolderRefused("/q", "it is a link"),
    queue_errors.NameTaken("/q/ready_1"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_of_the_queue_survive_copies_and_pickles(error: Exception) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert getattr(twin, "errno", None) == getattr(error, "errno", None)
        assert getattr(twin, "filename", None) == getattr(error, "filename", None)


def test_every_error_of_the_queue_has_an_example() -> None:
    kinds = set(_all_errors(queue_errors.TurboQueueError)) - {queue_errors.TurboQueueError}
    # Other tests import the command line, whose own errors nobody else gets to see.
    kinds -= {kind for kind in kinds if kind.__module__.startswith("turbo_queue.operate.")}

    assert {type(error) for error in EXAMPLES} == kinds


def test_nothing_that_runs_code_from_data_is_used() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    by_name = SOURCES["turbo_queue"] / "codec.py"  # For queues that ask for pickles by name.
    for path in MODULES:
        assert not imports_of(path) & (forbidden - {"pickle"} if path == by_name else forbidden)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path


def test_no_test_leaves_the_project_with_a_path_of_this_machine() -> None:
    home = os.path.expanduser("~")
    for path in MODULES:
        assert home not in path.read_text()
