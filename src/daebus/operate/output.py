"""What the commands print, and the exit codes they end with.

Results go to stdout, notes and errors to stderr, colours only to a terminal. What came over the
wire is printed with its control characters escaped, so that no message can drive the terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container
from enum import IntEnum
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from daebus.errors import (
    BadMessage,
    ConnectionLost,
    DaebusError,
    RegistrationError,
    ServerUnavailable,
    SettingsError,
)
from daebus.logs import printable

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)


#: A table's width where there is no terminal that has one, in characters.
PLAIN_WIDTH = 240


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
        '{"text":"café\\u009b"}'
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


def table(*columns: str, figures: Container[str] = (), wrapping: Container[str] = ()) -> Table:
    """A table.

    Args:
        columns: their names.
        figures: those that hold figures.
        wrapping: those that take several lines on a terminal that is too narrow.
    """
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in figures else "left",
            no_wrap=name not in wrapping,
            overflow="fold" if name in wrapping else "ellipsis",
        )
    return made


def cell(value: object, style: str = "") -> Text:
    """What stands in a table; others may have written it, so no control character gets out."""
    return Text(printable(str(value)), style)


def show(view: RenderableType) -> None:
    """Print a table, or several: to a terminal as wide as it is, else as wide as they need."""
    console = out if out.is_terminal else Console(width=PLAIN_WIDTH, highlight=False)
    console.print(view, soft_wrap=False)


def span(seconds: float) -> str:
    """A time in its two largest units.

    Example:
        >>> span(59.9), span(3_700), span(180_000)
        ('59s', '1h 1m', '2d 2h')
    """
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts or unit == "s":
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "replica"), count(2_000, "call")
        ('1 replica', '2,000 calls')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
