"""What a replica has in hand: each message of its inbox, until the server knows its outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from enum import IntEnum

from daebus.bus.group import Entry

#: How long the reader waits for more room when there is a little, in seconds: one read for many
#: messages where handlers are quick, and no longer wait where they are slow.
GATHER_S = 0.001


class Outcome(IntEnum):
    """What became of a message. Where several listeners had it, the highest counts."""

    DONE = 0
    REFUSED = 1
    FAILED = 2
    GIVEN_BACK = 3


class InboxDelivery:
    """One message in hand; see `Delivery`.

    Args:
        entry: the message.
        settle: told once what became of it.
        parts: how many handlers have it.
    """

    __slots__ = (
        "_left",
        "_lock",
        "_outcome",
        "_reason",
        "_settle",
        "count",
        "entry",
        "is_lost",
        "is_stored",
        "message_id",
    )

    def __init__(
        self,
        entry: Entry,
        settle: Callable[[InboxDelivery, Outcome, str | None], None],
        parts: int = 1,
    ) -> None:
        self.entry = entry
        self.message_id = entry.message_id
        self.count = entry.deliveries
        self.is_stored = True
        #: Whether somebody else has it by now, because this replica gave no sign of life.
        self.is_lost = False
        self._settle = settle
        self._lock = threading.Lock()
        self._left = parts
        self._outcome = Outcome.DONE
        self._reason: str | None = None

    def finished(self, failure: str | None) -> None:
        """See `Delivery`."""
        self._end_part(Outcome.DONE if failure is None else Outcome.FAILED, failure)

    def refused(self, reason: str) -> None:
        """See `Delivery`."""
        self._end_part(Outcome.REFUSED, reason)

    def given_back(self) -> None:
        """See `Delivery`."""
        self._end_part(Outcome.GIVEN_BACK, None)

    def _end_part(self, outcome: Outcome, reason: str | None) -> None:
        with self._lock:
            self._left -= 1
            if outcome > self._outcome:
                self._outcome, self._reason = outcome, reason
            # A handler that a stop left behind may end long after its message was given back.
            if self._left != 0:
                return
        self._settle(self, self._outcome, self._reason)


class Holdings:
    """The messages in hand, so many at most. Safe from any thread.

    Args:
        limit: how many there may be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._enough = (limit + 1) // 2
        self._by_id: dict[bytes, InboxDelivery] = {}
        self._changed = threading.Condition()
        #: With how much room somebody wants to be woken.
        self._wanted: int | None = None
        self._is_ended = False

    def wait_for_room(self) -> int:
        """Wait until there is room for more, and give how much; 0 when none is wanted any more."""
        with self._changed:
            for wanted, timeout_s in ((1, None), (self._enough, GATHER_S)):
                self._wanted = wanted
                self._changed.wait_for(
                    lambda wanted=wanted: self._is_ended or self._room >= wanted,  # type: ignore[misc]
                    timeout_s,
                )
            self._wanted = None
            return 0 if self._is_ended else self._room

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until a message is out of hand, or so long; False when no more are wanted."""
        with self._changed:
            if not self._is_ended:
                self._wanted = 0
                self._changed.wait(timeout_s)
                self._wanted = None
            return not self._is_ended

    def end(self) -> None:
        """Nothing more is taken in hand."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def add(self, delivery: InboxDelivery) -> bool:
        """Take a message in hand; False when it is already."""
        with self._changed:
            found = self._by_id.setdefault(delivery.entry.id, delivery)
            found.is_lost = False
        return found is delivery

    def remove(self, ids: Iterable[bytes]) -> None:
        """The server knows what became of these."""
        with self._changed:
            for entry_id in ids:
                self._by_id.pop(entry_id, None)
            if self._wanted is not None and self._room >= self._wanted:
                self._changed.notify()

    def lose(self, ids: Iterable[bytes]) -> int:
        """Somebody else has these by now; gives how many of them are in hand."""
        with self._changed:
            lost = [self._by_id[entry_id] for entry_id in ids if entry_id in self._by_id]
            for delivery in lost:
                delivery.is_lost = True
        return len(lost)

    def ids(self) -> list[bytes]:
        """What is in hand, and nobody else's."""
        with self._changed:
            return [each.entry.id for each in self._by_id.values() if not each.is_lost]

    def has_suspect(self) -> bool:
        """Whether a message is in hand that may have been the death of other replicas."""
        with self._changed:
            return any(each.entry.is_suspect for each in self._by_id.values())

    @property
    def _room(self) -> int:
        return self._limit - len(self._by_id)
