"""Pauses between tries, each twice as long as the one before, and one log line for each failure."""

from __future__ import annotations

import logging
import threading

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class Pauses:
    """The pauses of one thread that tries again.

    Args:
        stopping: Ends a pause.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._pause_s = FIRST_PAUSE_S

    def note(self, error: BaseException, what: str, log: logging.Logger) -> None:
        """Log a failure, and when it is tried again."""
        log.warning(
            "%s: %s: %s; trying again in %.1f s",
            what,
            type(error).__name__,
            error,
            self._pause_s,
            extra={"event": "connector.failed"},
        )

    def wait(self) -> bool:
        """Make the pause; False if the end is wished for."""
        if self._stopping.wait(self._pause_s):
            return False
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        return True

    def forget(self) -> None:
        """It works again: begin with a short pause the next time."""
        self._pause_s = FIRST_PAUSE_S
