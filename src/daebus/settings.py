"""Settings: the argument, then the environment, then the default. The only reader of os.environ."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from daebus.errors import SettingsError

DEFAULT_URL = "redis://localhost:6379"

_LAST_PORT = 65_535

#: The longest time that may be given, in seconds: 31 years, for who means "never". Python's waits
#: and the server's expiries refuse what is much longer, and only when they are needed.
LONGEST_S = 1e9


def server_url(url: str | None = None) -> str:
    """The server's address: `url`, else the environment's `DAEBUS_URL`, else the default."""
    return url or os.environ.get("DAEBUS_URL") or DEFAULT_URL


def set_for_process(name: str, value: object) -> None:
    """Set `DAEBUS_<NAME>` for this process and its children: how the command line passes it on."""
    os.environ[f"DAEBUS_{name.upper()}"] = str(value)


def runtime_folder() -> Path:
    """Where sockets and lock files of this user live: the system's folder, or a temporary one.

    `XDG_RUNTIME_DIR` is per user, 0700 and not swept while the user is logged in (XDG Base
    Directory Specification). The temporary folder is shared, so the name carries the user's id and
    whoever uses it checks owner and mode.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base:
        return Path(base) / "daebus"
    return Path(tempfile.gettempdir()) / f"daebus-{os.getuid()}"


def whole_number(name: str, given: int | None, default: int) -> int:
    """A count of 1 or more: `given`, else the environment's `DAEBUS_<NAME>`, else the default.

    Raises:
        SettingsError: it is no whole number of 1 or more.
    """
    value = _setting(name, given, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(value, bool) or (isinstance(value, float) and value != number):
        raise SettingsError(f"{name} is {value!r}; it must be a whole number of 1 or more")
    return number


def seconds(name: str, given: float | None, default: float) -> float:
    """A time of 0 or more: `given`, else the environment's `DAEBUS_<NAME>`, else the default.

    Raises:
        SettingsError: it is no number of 0 or more, or longer than `LONGEST_S`.
    """
    value = _setting(name, given, default)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= LONGEST_S:
        raise SettingsError(
            f"{name} is {value!r}; it must be a number of seconds, 0 or more and 1e9 at most"
        )
    return number


def optional_number(name: str, given: int | None) -> int | None:
    """A count of 1 or more, or None where neither `given` nor the environment has one.

    Raises:
        SettingsError: it is no whole number of 1 or more.
    """
    value = text(name, None) if given is None else given
    return None if value is None else whole_number(name, value, 1)  # type: ignore[arg-type]


def port(name: str, given: int | None) -> int | None:
    """A port, 0 for any that is free: `given`, else the environment's `DAEBUS_<NAME>`, else None.

    Raises:
        SettingsError: it is no number from 0 to 65535.
    """
    value = text(name, None) if given is None else given
    if value is None:
        return None
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _LAST_PORT:
        raise SettingsError(f"{name} is {value!r}; it must be a number from 0 to {_LAST_PORT}")
    return number


def text(name: str, given: str | None) -> str | None:
    """A text: `given`, else the environment's `DAEBUS_<NAME>`, else None."""
    return given if given is not None else os.environ.get(f"DAEBUS_{name.upper()}") or None


def folders() -> list[Path]:
    """The folders that the environment's `DAEBUS_FOLDERS` names, as `PATH` does its own."""
    return [Path(each) for each in (text("folders", None) or "").split(os.pathsep) if each]


def choice(name: str, given: str | None, *choices: str) -> str:
    """One of several words: `given`, else the environment's `DAEBUS_<NAME>`, else the first.

    Raises:
        SettingsError: it is none of them.
    """
    value = text(name, given)
    if value is None:
        return choices[0]
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}; it must be {' or '.join(map(repr, choices))}")
    return value


def flag(name: str, given: bool | None) -> bool:  # noqa: FBT001 - None is the third case
    """Whether something is on: `given`, else the environment's `DAEBUS_<NAME>`, else off.

    Raises:
        SettingsError: it says neither.
    """
    value: object = given
    if given is None:
        found = text(name, None) or "0"
        value = _FLAGS.get(found.lower(), found)
    if not isinstance(value, bool):
        choices = "1 or 0" if given is None else "True or False"
        raise SettingsError(f"{name} is {value!r}; it must be {choices}")
    return value


_FLAGS = {"1": True, "true": True, "0": False, "false": False}


def state_folder() -> Path:
    """Where files of this user live that must outlast a restart (XDG Base Directory Specification).

    systemd gives a service with `StateDirectory=` a folder of its own (systemd.exec(5)).

    Raises:
        SettingsError: the user has no home.
    """
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0]) / "daebus"
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base) / "daebus"
    try:
        return Path.home() / ".local" / "state" / "daebus"
    except RuntimeError as error:
        raise SettingsError("this user has no home folder to keep files in") from error


def _setting(name: str, given: float | None, default: float) -> float | str:
    if given is not None:
        return given
    return os.environ.get(f"DAEBUS_{name.upper()}") or default
