"""Requests that their callers have cancelled, and how that is told to whoever has one of them."""

from __future__ import annotations

from collections.abc import Iterable
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


class Control:
    """Takes what callers say to all replicas of the service.

    Args:
        cancellations: where cancelled requests are remembered that have not been started.
        runners: where those run that have been.
        incidents: counts what cannot be read.
        max_message_bytes: larger messages are refused.
    """

    def __init__(
        self,
        cancellations: Cancellations,
        runners: Iterable[Cancels],
        incidents: Incidents,
        max_message_bytes: int,
    ) -> None:
        self._cancellations = cancellations
        self._runners = runners
        self._incidents = incidents
        self._max_bytes = max_message_bytes

    def take(self, data: bytes) -> None:
        """Take a message. Called from the reader thread."""
        try:
            request_id = decode_control(data, self._max_bytes).cancel
        except BadMessage as error:
            self._incidents.report("bad_message", f"dropped on the control channel: {error.reason}")
            return
        if len(request_id) > MAX_ID_LENGTH:
            self._incidents.report("bad_message", "dropped on the control channel: a long id")
            return
        # Remembered first: what starts from now on sees it there, what runs already is told.
        self._cancellations.add(request_id)
        for runner in self._runners:
            runner.cancel(request_id)
