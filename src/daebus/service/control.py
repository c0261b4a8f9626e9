"""What is said to all replicas of a service: which request was cancelled, and who is to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Protocol

from daebus.errors import BadMessage
from daebus.logs import Incidents
from daebus.messages import decode_control

#: For how long an id is remembered, in seconds, and how many at most: a request may still wait in
#: the inbox when it is cancelled. All replicas hear of it, though one of them has the request.
REMEMBER_S = 600.0
MAX_REMEMBERED = 10_000

#: A longer id is not remembered, in characters, so that those that are fit into memory.
MAX_ID_LENGTH = 200


class Cancels(Protocol):
    """Where handlers run; see `Runner`."""

    def cancel(self, request_id: str) -> None:
        """End the handler of this request, if it runs here and can be ended."""


class Cancellations:
    """The ids of cancelled requests. Added to by the reader thread, read by any.

    Attributes:
        ids: the ids, and when each was cancelled, oldest first. Nearly always there is none, so
            that a message costs a look at an empty dict.
    """

    def __init__(self) -> None:
        self.ids: dict[str | int | None, float] = {}

    def add(self, request_id: str) -> None:
        """Remember an id, and forget the oldest if there are too many."""
        now = monotonic()
        self.ids[request_id] = now
        while self.ids:
            oldest = next(iter(self.ids))
            if len(self.ids) <= MAX_REMEMBERED and now - self.ids[oldest] <= REMEMBER_S:
                return
            del self.ids[oldest]


#: In place of a replica's id: all of them.
EVERY_REPLICA = "*"


class Control:
    """Takes what is said to all replicas of the service.

    Args:
        replica_id: this one.
        drain: stops the service; must not block.
        cancellations: where cancelled requests are remembered that have not been started.
        runners: where those run that have been.
        incidents: counts what cannot be read.
        max_message_bytes: larger messages are refused.
    """

    def __init__(
        self,
        replica_id: str,
        drain: Callable[[], None],
        *,
        cancellations: Cancellations,
        runners: Iterable[Cancels],
        incidents: Incidents,
        max_message_bytes: int,
    ) -> None:
        self._replica_id = replica_id
        self._drain = drain
        self._cancellations = cancellations
        self._runners = runners
        self._incidents = incidents
        self._max_bytes = max_message_bytes

    def take(self, data: bytes) -> None:
        """Take a message. Called from the reader thread."""
        try:
            said = decode_control(data, self._max_bytes)
        except BadMessage as error:
            self._drop(error.reason)
            return
        if said.drain in (self._replica_id, EVERY_REPLICA):
            self._drain()
        if len(said.cancel) > MAX_ID_LENGTH:
            self._drop("a long id")
        elif said.cancel:
            self._cancel(said.cancel)
        elif not said.drain:
            self._drop("it says neither what to cancel nor who is to stop")

    def _cancel(self, request_id: str) -> None:
        # Remembered first: what starts from now on sees it there, what runs already is told.
        self._cancellations.add(request_id)
        for runner in self._runners:
            runner.cancel(request_id)

    def _drop(self, reason: str) -> None:
        self._incidents.report("bad_message", f"dropped on the control channel: {reason}")
