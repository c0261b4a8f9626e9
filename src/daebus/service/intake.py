"""From the bytes of a message to its handler's runner: decode it, find its route, or refuse it.

Called from the threads in which messages arrive, and never waits.
"""

from __future__ import annotations

from collections.abc import Callable

from daebus.channels import BUILT_IN_PREFIX, MAX_NAME_LENGTH, is_reply_channel
from daebus.errors import BadMessage, Code, DaebusError
from daebus.logs import Incidents, printable
from daebus.messages import (
    ErrorEnvelope,
    RequestEnvelope,
    check_limits,
    decode_ids,
    decode_request,
)
from daebus.service.exchange import Delivery, Exchange
from daebus.service.request import ActionRequest, Request
from daebus.service.response import NO_RESPONSE, Outlet, Response
from daebus.service.routes import Route, Routes

#: Hands a message to where its handler runs; False when there is no room.
Offer = Callable[[Exchange], bool]


class Intake:
    """Takes messages, however they arrive.

    Args:
        service: the service's name.
        routes: where messages go.
        offer: takes each message.
        outlet: where refusals leave.
        incidents: where refusals are counted.
        max_message_bytes: larger messages are refused.
    """

    def __init__(
        self,
        service: str,
        routes: Routes,
        *,
        offer: Offer,
        outlet: Outlet,
        incidents: Incidents,
        max_message_bytes: int,
    ) -> None:
        self._service = service
        self._actions = routes.actions
        self._offer = offer
        self._outlet = outlet
        self._incidents = incidents
        self._max_bytes = max_message_bytes

    def take_request(
        self, data: bytes, channel: str, delivery: Delivery | None = None, age_s: float = 0.0
    ) -> None:
        """Take a request for an action.

        Args:
            data: the request as it came.
            channel: what it came on.
            delivery: who has to know what becomes of it.
            age_s: how long ago it was sent.
        """
        try:
            envelope = decode_request(data, self._max_bytes)
        except BadMessage as error:
            self._refuse_unread(data, error, delivery)
            return
        request = self._request(envelope, channel, age_s)
        response = Response(request, self._outlet)
        route = self._actions.get(envelope.action)
        if route is None:
            self._incidents.report(
                "unknown_action", lambda: f"there is no action {_shown(envelope.action)}"
            )
            self._refuse(response, Code.UNKNOWN_ACTION, self._unknown(envelope.action))
            if delivery is not None:
                _end(delivery, request.reply_to, f"there is no action {_shown(envelope.action)}")
            return
        exchange = Exchange(route, request, response, data, delivery, age_s=age_s)
        if delivery is not None:
            request.message_id, request.delivery_count = delivery.message_id, delivery.count
        if not self._offer(exchange):
            self._incidents.report(
                "rejected", f"the backlog is full: requests such as {route.name!r} are refused"
            )
            self._refuse(
                response,
                Code.OVERLOADED,
                f"service {self._service!r} has as many messages waiting as it may hold",
            )

    def take_published(
        self, channel: str, routes: list[Route], data: bytes, delivery: Delivery | None = None
    ) -> None:
        """Take a message that was published to a channel, for each listener.

        Args:
            channel: the channel's name.
            routes: the listeners.
            data: the payload as it came.
            delivery: who has to know what becomes of it.
        """
        try:
            check_limits(data, self._max_bytes)
        except BadMessage as error:
            reason = error.reason
            self._incidents.report("bad_message", f"dropped on {channel!r}: {reason}")
            if delivery is not None:
                delivery.refused(reason)
            return
        for route in routes:
            request = Request(data, channel)
            if delivery is not None:
                request.message_id, request.delivery_count = delivery.message_id, delivery.count
            if not self._offer(Exchange(route, request, NO_RESPONSE, data, delivery)):
                self._incidents.report(
                    "dropped", f"the backlog is full: messages on {channel!r} are dropped"
                )

    def refuse_unhandled(self, data: bytes, code: str, text: str) -> str | None:
        """Answer a request that is not taken at all, if it can be read that far.

        Returns:
            Where the answer went.
        """
        reply_to, request_id = decode_ids(data, self._max_bytes)
        if reply_to is None or not is_reply_channel(reply_to):
            return None
        envelope = ErrorEnvelope(text, code, request_id)
        self._outlet.publish(reply_to, self._outlet.encode(envelope))
        return reply_to

    def _request(self, envelope: RequestEnvelope, channel: str, age_s: float) -> ActionRequest:
        reply_to = envelope.reply_to
        if reply_to is not None and not is_reply_channel(reply_to):
            self._incidents.report(
                "bad_reply_to",
                lambda: f"no replies go to {_shown(str(reply_to))}: not a caller's channel",
            )
            return ActionRequest(envelope, channel, None, age_s)
        return ActionRequest(envelope, channel, reply_to, age_s)

    def _refuse_unread(self, data: bytes, error: BadMessage, delivery: Delivery | None) -> None:
        """A request that cannot be read is answered if it at least says where to."""
        reason = error.reason
        self._incidents.report("bad_message", lambda: f"refused a message: {printable(reason)}")
        reply_to = self.refuse_unhandled(data, Code.BAD_REQUEST, reason)
        if delivery is not None:
            _end(delivery, reply_to, reason)

    def _refuse(self, response: Response, code: str, text: str) -> None:
        try:
            response.refuse(code, text)
        except DaebusError:
            self._incidents.report("reply_lost", "a refusal could not be sent")

    def _unknown(self, action: str) -> str:
        own = [name for name in self._actions if not name.startswith(BUILT_IN_PREFIX)]
        known = ", ".join(sorted(own)) or "none"
        return f"there is no action {_shown(action)}; service {self._service!r} has: {known}"


def _end(delivery: Delivery, reply_to: str | None, reason: str) -> None:
    """A message that can never be handled: its caller was told, or it is kept with the reason."""
    if reply_to is None:
        delivery.refused(reason)
    else:
        delivery.finished(None)


def _shown(name: str) -> str:
    """A name from outside, as it may stand in a log line or an error."""
    return repr(name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}…")
