"""Watches the replicas that have calls under way: who called one that has died learns it at once.

One thread, which exists while calls are made. It also keeps what is known of each service fresh,
so that no call waits for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from daebus.bus.commands import Asked
from daebus.bus.link import Link
from daebus.client.destinations import Destination, Directory
from daebus.client.replicas import LiveReplica
from daebus.errors import DaebusError
from daebus.logs import describe, get_logger

log = get_logger(__name__)

#: Time between two looks, in seconds. A call that ends sooner costs the server nothing more.
TICK_S = 0.1

#: A replica that was not there for so long has died, in seconds. One whose connection was cut is
#: back after some hundredths of a second, and on a busy machine a little later.
DEAD_AFTER_S = 0.7

#: What is known of a service is read again after so long, in seconds, while it is called.
REFRESH_S = 1.0

#: … and after so long while a replica that went away may be replaced, which is for so long.
REFRESH_SOON_S = 0.2
REPLACED_WITHIN_S = 5.0

#: … and is forgotten when the service was not called for so long, in seconds.
LINGER_S = 5.0


class Watch:
    """The thread that watches.

    Args:
        link: whom to ask.
        directory: the services that are called.
        lose: ends the calls of a replica that has died.
    """

    def __init__(
        self,
        link: Link,
        directory: Directory,
        lose: Callable[[Destination, LiveReplica], None],
    ) -> None:
        self._link = link
        self._directory = directory
        self._lose = lose
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_asking = False
        self._is_running = False

    def start(self) -> None:
        """Start the thread, if it does not run."""
        with self._lock:
            if not self._is_running:
                self._is_running = True
                self._wake.clear()
                threading.Thread(target=self._run, name="daebus-watch", daemon=True).start()

    def wake(self) -> None:
        """Look now; ends the thread if there is nothing to watch any more."""
        self._wake.set()

    def _run(self) -> None:
        while self._goes_on():
            self._wake.wait(TICK_S)
            self._wake.clear()
            try:
                self._look(monotonic())
            except Exception as error:  # noqa: BLE001 - the next look may succeed
                log.warning("no watch: %s", describe(error), extra={"event": "watch.error"})

    def _goes_on(self) -> bool:
        if any(self._directory):
            return True
        with self._lock:
            self._is_running = False
            # A call that came in between has found the thread running still.
            self._is_running = any(self._directory)
            return self._is_running

    def _look(self, now: float) -> None:
        suspects = []
        for destination in self._directory:
            replicas = destination.under_way()
            if destination.is_used or replicas:
                destination.is_used = False
                destination.last_used_at = now
                is_soon = now - destination.lost_at < REPLACED_WITHIN_S
                if now - destination.read_at > (REFRESH_SOON_S if is_soon else REFRESH_S):
                    destination.look()
            elif now - destination.last_used_at > LINGER_S:
                destination.forget()
            suspects += [(destination, each) for each in replicas if each.has_old_call()]
        if suspects and not self._is_asking:
            channels = [replica.alive_channel for _, replica in suspects]
            self._is_asking = True
            try:
                question = Asked(partial(self._judge, suspects), "PUBSUB", "NUMSUB", *channels)
                self._link.send(question)
            except DaebusError:
                self._is_asking = False
                raise

    def _judge(self, suspects: list[tuple[Destination, LiveReplica]], reply: Any) -> None:
        """The reply: whether each subscribes to the channel that it has while it lives."""
        self._is_asking = False
        if isinstance(reply, DaebusError) or not isinstance(reply, list):
            return  # No connection, or no right to ask: deadlines end the calls.
        now = monotonic()
        for (destination, replica), subscribers in zip(suspects, reply[1::2], strict=True):
            if subscribers:
                replica.missing_since = None
            elif replica.missing_since is None:
                replica.missing_since = now
            elif now - replica.missing_since >= DEAD_AFTER_S:
                self._lose(destination, replica)
