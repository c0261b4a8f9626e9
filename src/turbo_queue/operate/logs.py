"""Log records on stderr, for commands that run a user's code."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any

from turbo_queue.operate import output

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s  %(message)s"

#: Wipes what a live line has left on the terminal.
_ERASE_LINE = "\r\x1b[2K"


class _OneLineEach(logging.Formatter):
    """Escapes control characters, so that no event's text can pass for a record of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """See `logging.Formatter`."""
        record.message = output.printable(record.message)
        begin = _ERASE_LINE if output.err.is_terminal else ""
        return begin + super().formatMessage(record)

    def formatException(  # noqa: N802
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | Any
    ) -> str:
        """See `logging.Formatter`."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  | {output.printable(line)}" for line in lines)


def show_logs(level: int) -> None:
    """Show records from this level on, unless the program has configured logging itself."""
    root = logging.getLogger()
    if root.hasHandlers():
        return
    root.setLevel(level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLineEach(_FORMAT))
    root.addHandler(handler)
