"""The thread that brings back what waits on disk: one of the sources of a service."""

from __future__ import annotations

import threading
from collections.abc import Callable

from daebus.deadline import Deadline
from daebus.logs import Incidents, get_logger

log = get_logger(__name__)

#: How soon it tries again after something failed, in seconds.
RETRY_S = 0.5


class Mover:
    """A thread that sleeps while nothing waits.

    Args:
        name: what it moves.
        move: moves what it can; gives the seconds until it is to be called again, or None when
            nothing waits any more.
        incidents: where what goes wrong is counted.
    """

    def __init__(self, name: str, move: Callable[[], float | None], incidents: Incidents) -> None:
        self._move = move
        self._incidents = incidents
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"daebus-spill-{name}", daemon=True)

    def start(self, deadline: Deadline) -> None:  # noqa: ARG002 - it starts at once
        """See `Source`."""
        self._thread.start()

    def wake(self) -> None:
        """Something waits."""
        self._awake.set()

    def stop(self, deadline: Deadline) -> None:
        """See `Source`. What waits, waits for the next start."""
        self._stopping.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(deadline.remaining_s())

    def close(self, deadline: Deadline) -> None:
        """See `Source`. The runner that it belongs to has closed the disk."""

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def _run(self) -> None:
        while self._awake.wait() and not self.is_stopping:
            self._awake.clear()
            pause_s: float | None = 0.0
            while pause_s is not None and not self._stopping.wait(pause_s):
                pause_s = self._move_safely()

    def _move_safely(self) -> float | None:
        try:
            return self._move()
        except OSError as error:  # A disk that fails, no descriptors left.
            self._incidents.report("spill_error", f"what waits cannot be read now: {error}")
        except Exception:
            # Whatever went wrong, it must not stay on disk for good.
            log.exception("what waits cannot be moved now", extra={"event": "spill_error"})
        return RETRY_S
