"""Log records on stderr, for a command that runs a user's code in many processes."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any

from turbo_queue.escapes import printable

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"

#: Wipes what a live line has left on the terminal.
_ERASE_LINE = "\r\x1b[2K"


class _OneLineEach(logging.Formatter):
    """Escapes control characters, so that no event's text can pass for a record of its own."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)
        self._begin = _ERASE_LINE if sys.stderr is not None and sys.stderr.isatty() else ""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See `logging.Formatter`."""
        record.message = printable(record.message)
        return self._begin + super().formatMessage(record)

    def formatException(  # noqa: N802
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | Any
    ) -> str:
        """See `logging.Formatter`."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  | {printable(line)}" for line in lines)


def show_logs(level: int) -> None:
    """Show records from this level on, unless the program has configured logging itself."""
    root = logging.getLogger()
    if root.hasHandlers():
        return
    root.setLevel(level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLineEach())
    root.addHandler(handler)


def shown_level() -> int | None:
    """The level from which on `show_logs` shows records in this process; None if it shows none.

    For the processes that this one starts: those that are not forked know nothing of it.
    """
    root = logging.getLogger()
    is_mine = any(isinstance(handler.formatter, _OneLineEach) for handler in root.handlers)
    return root.level if is_mine else None
