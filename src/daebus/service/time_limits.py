"""Time limits of handlers in threads: a thread cannot be stopped, but its caller is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from daebus.service.exchange import Exchange
from daebus.settings import LONGEST_S


class TimeLimits:
    """One thread that waits for the next limit to pass; it exists once a limit was asked for.

    It knows only the handlers that run: what has returned must not be kept in memory.

    Args:
        on_passed: told of each handler that runs longer than its limit.
    """

    def __init__(self, on_passed: Callable[[Exchange], object]) -> None:
        self._on_passed = on_passed
        self._changed = threading.Condition()
        #: When the limit of each handler that runs passes, on the monotonic clock.
        self._running: dict[Exchange, float] = {}
        #: When the thread looks again.
        self._looks_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    def watch(self, exchange: Exchange, timeout_s: float) -> None:
        """A handler begins: report it when it has not ended in time."""
        passes_at = monotonic() + timeout_s
        with self._changed:
            self._running[exchange] = passes_at
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="daebus-time-limits", daemon=True)
                thread.start()
                self._thread = thread
            elif passes_at < self._looks_at:
                self._changed.notify()

    def end(self, exchange: Exchange) -> None:
        """It has ended."""
        with self._changed:
            self._running.pop(exchange, None)

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._is_stopping:
                    return
                now = monotonic()
                passed = [each for each, at in self._running.items() if at <= now]
                for exchange in passed:
                    del self._running[exchange]
                if not passed:
                    self._looks_at = min(self._running.values(), default=now + LONGEST_S)
                    self._changed.wait(self._looks_at - now)
            for exchange in passed:
                self._on_passed(exchange)
