"""The timer of a producer: looks after a batch that is not full, until there is none."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: How soon it looks again after a look that failed.
RETRY_S = 1.0


class Ager:
    """A thread that sleeps while there is nothing to look after. It starts at first need.

    Args:
        look: Called when the time has come; gives the seconds until the next look, or None.
    """

    def __init__(self, look: Callable[[], float | None]) -> None:
        self._look = look
        self._armed = threading.Event()
        self._stopped = threading.Event()
        self._delay_s = 0.0
        self._thread: threading.Thread | None = None

    def arm(self, delay_s: float) -> None:
        """Look once after so many seconds; does nothing while a look is due already."""
        if self._armed.is_set():
            return
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="turbo-queue-ager", daemon=True)
            thread.start()
            self._thread = thread
        self._delay_s = delay_s
        self._armed.set()

    def stop(self) -> None:
        """End the thread, and wait for its end."""
        self._stopped.set()
        self._armed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while self._armed.wait() and not self._stopped.is_set():
            delay_s: float | None = self._delay_s
            while delay_s is not None and not self._stopped.wait(delay_s):
                delay_s = self._look_safely()
            self._armed.clear()
            # A batch that began before the line above has found the timer armed: look once more.
            if self._stopped.is_set() or (delay_s := self._look_safely()) is not None:
                self._delay_s = delay_s or 0.0
                self._armed.set()

    def _look_safely(self) -> float | None:
        try:
            return self._look()
        except Exception:
            logger.exception("a look after a batch failed", extra={"event": "ager.failed"})
            return RETRY_S
