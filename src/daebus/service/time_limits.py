"""Time limits of handlers in threads: a thread cannot be stopped, but its caller is told."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic

from daebus.service.exchange import Exchange


class TimeLimits:
    """One thread that waits for the next limit to pass; it exists once a limit was asked for."""

    def __init__(self, on_passed: Callable[[Exchange], object]) -> None:
        self._on_passed = on_passed
        self._changed = threading.Condition()
        self._limits: list[tuple[float, int, Exchange]] = []
        self._order = count()
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    def watch(self, exchange: Exchange, timeout_s: float) -> None:
        """Report the exchange when it is not answered in time."""
        with self._changed:
            heapq.heappush(self._limits, (monotonic() + timeout_s, next(self._order), exchange))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="daebus-time-limits", daemon=True
                )
                self._thread.start()
            self._changed.notify()

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
                while not self._is_stopping and (wait_s := self._wait_s()) != 0.0:
                    self._changed.wait(wait_s)
                if self._is_stopping:
                    return
                _, _, exchange = heapq.heappop(self._limits)
            if not exchange.response.is_answered:
                self._on_passed(exchange)

    def _wait_s(self) -> float | None:
        """Seconds until the next limit, at least 0.0; None while there is none."""
        if not self._limits:
            return None
        return max(0.0, self._limits[0][0] - monotonic())
