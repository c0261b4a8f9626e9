"""A thread that looks at a fleet again and again, for a view that must not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from daebus.logs import describe, get_logger
from daebus.operate.fleet.views import Fleet
from daebus.operate.fleet.watch import FleetWatch

log = get_logger(__name__)

#: How long the end of a look is waited for at the end, in seconds; the server may not answer.
JOIN_S = 0.5


class Looker:
    """Looks at once, and then after each interval.

    Args:
        watch: what looks; used by this thread alone from `start` to `stop`, and closed then.
        interval_s: the time between two looks, in seconds.
        on_look: called with what was seen, in this thread; must not block for long.
    """

    def __init__(
        self, watch: FleetWatch, interval_s: float, on_look: Callable[[Fleet], object]
    ) -> None:
        self._watch = watch
        self._interval_s = interval_s
        self._on_look = on_look
        self._is_paused = False
        self._stopping = threading.Event()
        #: Ends the wait for the next look.
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daebus-looking", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def pause(self) -> None:
        """Leave looks out until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        """End a pause with a look at once."""
        self._is_paused = False
        self._awake.set()

    def stop(self) -> None:
        """End the thread; one that waits for a server which does not answer is left to itself."""
        self._stopping.set()
        self._awake.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = monotonic()
            if not self._is_paused:
                self._look()
            # Where there is very much to look at, half of the time is left to the view.
            pause_s = max(self._interval_s, monotonic() - began)
            self._awake.wait(None if self._is_paused else pause_s)
            self._awake.clear()
        self._watch.close()

    def _look(self) -> None:
        try:
            fleet = self._watch.look()
        except Exception as error:  # noqa: BLE001 - the view goes on, and the next look may succeed
            log.warning("a look failed: %s", describe(error), extra={"event": "look.error"})
            return
        if not self._stopping.is_set():
            self._on_look(fleet)
