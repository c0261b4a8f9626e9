"""What the commands print, and the exit codes they end with.

Results go to stdout, notes and errors to stderr, colours only to a terminal. What came over the
wire is printed with its control characters escaped, so that no message can drive the terminal.
"""

from __future__ import annotations

import re
import sys
from enum import IntEnum
from typing import Any

import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from daebus.errors import (
    BadMessage,
    ConnectionLost,
    DaebusError,
    RegistrationError,
    ServerUnavailable,
    SettingsError,
)

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3


#: Stands at the end of `daebus --help`; an empty line between two lines keeps them apart.
EXIT_CODES = """Exit codes:

0  done; also after Ctrl-C or SIGTERM, for what runs until then

1  an error response, no response, nobody there, or a crash

2  bad usage, or the app cannot be imported

3  the server cannot be reached
"""

# A JSON text may hold these as they are; a terminal takes some of them for commands.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029]")


def exit_code(error: DaebusError) -> ExitCode:
    """The exit code that an error ends a command with."""
    if isinstance(error, ServerUnavailable) and not isinstance(error, ConnectionLost):
        return ExitCode.UNREACHABLE
    if isinstance(error, (SettingsError, RegistrationError, BadMessage)):
        return ExitCode.USAGE
    return ExitCode.ERROR


def prepare() -> None:
    """Let no character stop the output on a terminal that cannot show it."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(text: str, style: str = "") -> None:
    """Print a line of the result; nothing in it is taken for markup."""
    out.print(Text(text, style))


def note(text: str, style: str = "dim") -> None:
    """Print a line that is not part of the result, to stderr."""
    err.print(Text(text, style))


def fail(text: str) -> None:
    """Print an error, to stderr."""
    err.print(Text.assemble(("Error: ", "bold red"), text))


def as_json(value: Any) -> str:
    r"""One line of JSON without a character that a terminal could take for a command.

    Example:
        >>> as_json({"text": "caf\u00e9" + chr(0x9b)})
        '{"text":"caf\u00e9\\u009b"}'
    """
    text = msgspec.json.encode(value).decode()
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def show_json(value: Any) -> None:
    """Print one line of JSON, at once."""
    print(as_json(value), flush=True)


def show_value(value: Any) -> None:
    """Print a JSON value: over several lines and in colours for a person, else in one line."""
    if out.is_terminal:
        lines = msgspec.json.format(as_json(value), indent=2)
        out.print(JSONHighlighter()(Text(lines)))
    else:
        show_json(value)


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "replica"), count(2_000, "call")
        ('1 replica', '2,000 calls')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
