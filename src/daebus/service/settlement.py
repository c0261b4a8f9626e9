"""What becomes of a message of the inbox: removed, left for another try, or kept as a dead letter.

Its handler's thread only says what it was. While one acknowledgement is under way the next are
collected, so that a burst costs few commands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from daebus.bus.group import MAX_IDS, Group, Then
from daebus.errors import DaebusError
from daebus.logs import Incidents, describe
from daebus.service.deliveries import Holdings, InboxDelivery, Outcome


class Settlement:
    """Tells the server what became of messages. Safe from any thread.

    Args:
        group: this replica's part in the inbox.
        holdings: what is in hand, until the server knows.
        incidents: where messages that failed are counted.
        max_deliveries: how often a message is tried.
    """

    def __init__(
        self, group: Group, holdings: Holdings, incidents: Incidents, max_deliveries: int
    ) -> None:
        self._group = group
        self._holdings = holdings
        self._incidents = incidents
        self._max_deliveries = max_deliveries
        self._lock = threading.Lock()
        self._done: list[bytes] = []
        self._is_under_way = False
        #: Changes that the server refused.
        self._refused: list[Callable[[], None]] = []

    def settle(self, delivery: InboxDelivery, outcome: Outcome, reason: str | None) -> None:
        """Say what became of a message."""
        entry = delivery.entry
        if outcome is Outcome.DONE:
            self._acknowledge(entry.id)
        elif outcome is Outcome.GIVEN_BACK:
            self._change(entry.id, lambda then: self._group.park(entry, is_failed=False, then=then))
        elif outcome is Outcome.FAILED and entry.deliveries < self._max_deliveries:
            self._change(entry.id, lambda then: self._group.park(entry, is_failed=True, then=then))
        else:
            self.bury(delivery, reason or "it failed", entry.deliveries)

    def bury(self, delivery: InboxDelivery, reason: str, deliveries: int) -> None:
        """Keep a message as a dead letter."""
        entry = delivery.entry
        self._incidents.report(
            "dead_letter", f"a message was given up after {deliveries} deliveries: {reason}"
        )
        self._change(entry.id, lambda then: self._group.bury(entry, reason, deliveries, then))

    def retry(self) -> None:
        """Try again what the server refused, such as a dead letter while its memory was full."""
        with self._lock:
            refused, self._refused = self._refused, []
            ids = [] if self._is_under_way else self._take()
        if ids:
            self._send(ids)
        for change in refused:
            change()

    def flush(self) -> None:
        """Send what is still to be acknowledged, whether or not something is under way."""
        while True:
            with self._lock:
                ids = self._take()
            if not ids:
                return
            self._group.acknowledge(ids, lambda _: None)

    def _acknowledge(self, entry_id: bytes) -> None:
        with self._lock:
            self._done.append(entry_id)
            ids = [] if self._is_under_way else self._take()
        if ids:
            self._send(ids)

    def _take(self) -> list[bytes]:
        """The next ids to send, which are under way from now on. The caller has the lock."""
        ids, self._done = self._done[:MAX_IDS], self._done[MAX_IDS:]
        self._is_under_way = bool(ids)
        return ids

    def _send(self, ids: list[bytes]) -> None:
        try:
            self._group.acknowledge(ids, lambda error: self._acknowledged(ids, error))
        except DaebusError as error:
            self._acknowledged(ids, describe(error))

    def _acknowledged(self, ids: list[bytes], error: str | None) -> None:
        if error is not None:
            self._report(error)
            with self._lock:
                self._done = ids + self._done
                self._is_under_way = False
            return
        self._holdings.remove(ids)
        with self._lock:
            ids = self._take()
        if ids:
            self._send(ids)

    def _change(self, entry_id: bytes, send: Callable[[Then], None]) -> None:
        def then(error: str | None) -> None:
            if error is None:
                self._holdings.remove([entry_id])
                return
            self._report(error)
            with self._lock:
                self._refused.append(lambda: self._change(entry_id, send))

        try:
            send(then)
        except DaebusError as error:
            then(describe(error))

    def _report(self, error: str) -> None:
        self._incidents.report(
            "inbox_refused", f"the server refused to settle messages, which is tried again: {error}"
        )
