"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import daebus

SOURCE = Path(daebus.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_the_promised_names_are_those_that_are_visible() -> None:
    visible = {
        name
        for name, value in vars(daebus).items()
        if not name.startswith("_") and not hasattr(value, "__path__") and name not in sys.modules
    } - {"errors", "settings", "channels", "messages", "logs", "deadline"}

    assert set(daebus.__all__) == visible
    assert daebus.__all__ == sorted(daebus.__all__)


def test_importing_has_no_effect(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    program = """
import logging, os, threading
before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
import daebus
after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
assert threading.active_count() == 1, threading.enumerate()
assert not logging.getLogger().handlers and not logging.getLogger("daebus").handlers
assert len(after) == len(before), (before, after)
assert os.listdir(".") == []
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    tmp_path.chmod(0o700)


def test_only_settings_reads_the_environment() -> None:
    readers = {
        path.relative_to(SOURCE).as_posix()
        for path in MODULES
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }

    assert readers == {"settings.py"}


def test_nothing_that_runs_code_from_data_is_used() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    for path in MODULES:
        assert not imports_of(path) & forbidden, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path


def test_no_test_leaves_the_project_with_a_path_of_this_machine() -> None:
    home = os.path.expanduser("~")
    for path in MODULES:
        assert home not in path.read_text()
