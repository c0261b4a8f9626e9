"""The command itself: help, version, colours, bad usage."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from fixtures.commands import daebus, daebus_each, daebus_on_a_terminal

COMMANDS = ["run", "call", "send", "publish", "listen", "ps", "dead", "contract", "server", "demo"]


def test_the_version_is_the_distributions() -> None:
    assert daebus("--version").out == f"daebus {version('daebus')}\n"


def test_the_installed_script_is_the_same_as_the_module() -> None:
    script = Path(sys.executable).with_name("daebus")

    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)

    assert done.stdout == daebus("--help").out


def test_the_help_lists_every_command_and_the_exit_codes() -> None:
    shown = daebus("--help").out

    assert [name for name in COMMANDS if f"│ {name} " not in shown] == []
    for code in ("0  done", "1  an error", "2  bad usage", "3  the server"):
        assert code in shown


def test_each_commands_help_has_an_example() -> None:
    ends = daebus_each([name, "--help"] for name in COMMANDS)

    for name, done in zip(COMMANDS, ends, strict=True):
        assert (name, done.code) == (name, 0)
        _, example = done.out.split("Example", 1)
        assert f" daebus {name}" in example


def test_bad_usage_is_told_without_a_traceback() -> None:
    for done in daebus_each([["nonsense"], ["call", "only_a_service"], ["ps", "--nonsense"]]):
        assert done.code == 2
        assert "Error" in done.err
        assert "Traceback" not in done.err


def test_colours_are_only_for_a_terminal(url: str) -> None:
    assert "\x1b[" in daebus_on_a_terminal("send", "nobody", "action")
    assert "\x1b[" not in daebus("send", "nobody", "action").err
