"""One message and all that belongs to handling it, on its way from the reader to its handler."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Protocol

from daebus.service.request import Request
from daebus.service.response import Response
from daebus.service.routes import Route


class Delivery(Protocol):
    """How a message came, where somebody has to know what becomes of it. Safe from any thread."""

    #: The message's id, the same however often it is delivered.
    message_id: str
    #: How often it was delivered, this time counted: above 1 it may have been handled before.
    count: int
    #: Whether it is stored elsewhere until it is finished: it need not be kept here, too.
    is_stored: bool

    def finished(self, failure: str | None) -> None:
        """It was handled, or refused with an answer; with `failure` it is to be tried again."""

    def refused(self, reason: str) -> None:
        """It can never be handled, and nobody waits for an answer that would say so."""

    def given_back(self) -> None:
        """It was not handled, because the service stops."""


class Exchange:
    """A message, the handler that it goes to, and the response that it gets.

    Attributes:
        has_begun: whether its handler was running when the service stopped, as its runner says.
        received_at: when the service received it, on the monotonic clock.

    Args:
        route: where it goes.
        request: what the handler reads.
        response: what the handler sends.
        data: the message as it came on the wire.
        delivery: who has to know what becomes of it, if anybody.
        age_s: how long ago the service received it, as far as it waited elsewhere.
    """

    __slots__ = (
        "data",
        "delivery",
        "has_begun",
        "received_at",
        "request",
        "response",
        "route",
        "size_bytes",
    )

    def __init__(
        self,
        route: Route,
        request: Request,
        response: Response,
        data: bytes,
        delivery: Delivery | None = None,
        *,
        age_s: float = 0.0,
    ) -> None:
        self.received_at = monotonic() - age_s
        self.route = route
        self.request = request
        self.response = response
        self.data = data
        self.size_bytes = len(data)
        self.delivery = delivery
        self.has_begun = False

    @property
    def headers(self) -> Mapping[str, str]:
        """What its caller passed along."""
        return self.request.headers

    def arguments(self) -> tuple[Any, ...]:
        """The handler's arguments.

        Raises:
            BadMessage: the payload is not JSON, or not what the handler's type hints ask for.
        """
        make = self.route.arguments
        if make is None:
            # Decoded now, so that a broken payload is refused before any of the user's code runs.
            _ = self.request.payload
            return ()
        return make(self.request.raw_payload)

    def remaining_s(self) -> float | None:
        """Seconds until its caller gives up, 0.0 when it has; None where nobody waits so."""
        return self.request.remaining() if self.request.reply_to is not None else None

    def give_up(self, reason: str) -> None:
        """The message can never be handled here; it is kept, unless its caller was told."""
        delivery, self.delivery = self.delivery, None
        if delivery is None:
            return
        if self.request.reply_to is None:
            delivery.refused(reason)
        else:
            delivery.finished(None)

    def finish(self, failure: str | None = None) -> None:
        """The message is done with. One that failed is tried again, unless its caller was told."""
        if self.delivery is not None:
            is_told = self.request.reply_to is not None
            self.delivery.finished(None if is_told else failure)
