"""What the commands print, and the exit codes they end with.

Results go to stdout, notes and errors to stderr, colours only to a terminal. What stands in a
queue was written by others: it is printed with its control characters escaped, so that no event
can drive the terminal.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from io import TextIOWrapper
from typing import NoReturn

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from turbo_queue.errors import BatchDamaged
from turbo_queue.escapes import printable

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)

#: The width of a table where there is no terminal that has one: nothing is cut there.
_PLAIN_WIDTH = 10_000


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3


#: Stands at the end of `turbo-queue --help`; an empty line between two lines keeps them apart.
EXIT_CODES = """Exit codes:

0  done

1  an error: no queue there, a line that is not JSON, a full disk

2  bad usage, or a pipeline's file that makes no sense

3, 4, 5  of a pipeline: see 'turbo-queue run --help'

130  ended by Ctrl-C; 143: by SIGTERM
"""


def prepare() -> None:
    """Let no character stop the output on a terminal that cannot show it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None where the descriptor is closed.
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write what was printed; what stdout cannot take is an error only here.

    Raises:
        OSError: the disk is full, or nobody reads.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_rest() -> None:
    """Let what stdout could not take be no second error at the end of the process."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def say(text: str, style: str = "") -> None:
    """Print a line of the result; nothing in it is taken for markup."""
    out.print(Text(text, style))


def show(view: RenderableType) -> None:
    """Print a table: as wide as the terminal, or as wide as it needs."""
    console = out if out.is_terminal else Console(width=_PLAIN_WIDTH, highlight=False)
    console.print(view, soft_wrap=False)


def note(text: str, style: str = "dim") -> None:
    """Print a line that is not part of the result, to stderr."""
    err.print(Text(text, style))


def fail(text: str) -> None:
    """Print an error as one line, to stderr."""
    err.print(Text.assemble(("error: ", "bold red"), printable(text)))


def stop(text: str) -> NoReturn:
    """Print an error, and end the command."""
    fail(text)
    raise typer.Exit(ExitCode.ERROR)


def described(error: Exception) -> str:
    """What an error says, for a person.

    Example:
        >>> described(FileNotFoundError(2, "No such file or directory", "/nowhere"))
        "No such file or directory: '/nowhere'"
    """
    if isinstance(error, BatchDamaged):
        return f"a batch is damaged: {error.reason}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "event"), count(2_000, "batch")
        ('1 event', '2,000 batches')
    """
    plural = f"{noun}es" if noun.endswith("h") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
