"""Whether the extra `web` is there, which the web commands need and nothing else."""

from __future__ import annotations

from importlib.util import find_spec

from daebus.errors import SettingsError

PACKAGES = ("starlette", "uvicorn", "websockets")


def check_installed(command: str) -> None:
    """Raise when the extra `web` is not installed.

    Args:
        command: what needs it, for the error's text.

    Raises:
        SettingsError: a package is missing; the text says how to install it.
    """
    for name in PACKAGES:
        if find_spec(name) is None:
            raise SettingsError(
                f"{command} needs the package {name}; install it with: pip install 'daebus[web]'"
            )
