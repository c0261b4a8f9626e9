"""How messages arrive: from the subscription, through the limits, to whoever handles them.

Runs in the reader thread of the service's own link, and never waits: what finds no room is
refused at once, because a subscriber that stops reading is cut off by the server.
"""

from __future__ import annotations

from collections.abc import Callable

from daebus.bus.commands import Receivers
from daebus.channels import MAX_NAME_LENGTH, is_reply_channel
from daebus.errors import BadMessage, Code, ConnectionLost, DaebusError
from daebus.logs import Incidents, get_logger, printable
from daebus.messages import (
    ErrorEnvelope,
    RequestEnvelope,
    check_limits,
    decode_ids,
    decode_request,
)
from daebus.service.exchange import Exchange
from daebus.service.registry import Gap
from daebus.service.request import ActionRequest, Request
from daebus.service.response import NO_RESPONSE, Outlet, Response
from daebus.service.routes import Route, Routes

log = get_logger(__name__)

#: Hands a message to where its handler runs; False when there is no room.
Offer = Callable[[Exchange], bool]


class Intake:
    """The consumer of the service's link.

    Args:
        service: the service's name, which is its channel.
        routes: where messages go.
        offer: takes each message.
        outlet: where refusals leave.
        incidents: where refusals are counted.
        on_gap: told when messages may have been missed.
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
        on_gap: Callable[[Gap], None],
        max_message_bytes: int,
    ) -> None:
        self._service = service
        self._channel = service.encode()
        self._actions = routes.actions
        self._channels = {name.encode(): (name, found) for name, found in routes.channels.items()}
        self._patterns = {name.encode(): found for name, found in routes.patterns.items()}
        self._offer = offer
        self._outlet = outlet
        self._incidents = incidents
        self._on_gap = on_gap
        self._max_bytes = max_message_bytes
        self.gaps = 0

    def on_messages(self, messages: list[list[bytes]]) -> bool:
        """See `Consumer`."""
        channels, own_channel = self._channels, self._channel
        for message in messages:
            try:
                if message[0] == b"message":
                    _, channel, data = message
                    if channel in channels:
                        self._take_published(*channels[channel], data)
                    if channel == own_channel:
                        self._take_request(data)
                else:
                    _, pattern, channel, data = message
                    name = channel.decode(errors="replace")
                    self._take_published(name, self._patterns[pattern], data)
            except Exception:
                # One message must never end the reader, whatever is wrong with it.
                self._incidents.report("intake_error", "a message could not be taken")
                log.exception("a message could not be taken", extra={"event": "intake.error"})
        return False

    @property
    def is_expecting(self) -> bool:
        """See `Consumer`."""
        return True

    def on_lost(self, error: ConnectionLost) -> None:
        """See `Consumer`."""

    def on_back(self, gap_s: float, reason: str) -> None:
        """See `Consumer`."""
        self.gaps += 1
        self._on_gap(Gap(gap_s, reason))

    def _take_request(self, data: bytes) -> None:
        try:
            envelope = decode_request(data, self._max_bytes)
        except BadMessage as error:
            self._refuse_unread(data, error)
            return
        request = self._request(envelope)
        response = Response(request, self._outlet)
        route = self._actions.get(envelope.action)
        if route is None:
            self._incidents.report(
                "unknown_action", lambda: f"there is no action {_shown(envelope.action)}"
            )
            self._refuse(response, Code.UNKNOWN_ACTION, self._unknown(envelope.action))
            return
        if not self._offer(Exchange(route, request, response, len(data))):
            self._incidents.report(
                "rejected", f"the backlog is full: requests such as {route.name!r} are refused"
            )
            self._refuse(
                response,
                Code.OVERLOADED,
                f"service {self._service!r} has as many messages waiting as it may hold",
            )

    def _take_published(self, channel: str, routes: list[Route], data: bytes) -> None:
        try:
            check_limits(data, self._max_bytes)
        except BadMessage as error:
            reason = error.reason
            self._incidents.report("bad_message", f"dropped on {channel!r}: {reason}")
            return
        for route in routes:
            if not self._offer(Exchange(route, Request(data, channel), NO_RESPONSE, len(data))):
                self._incidents.report(
                    "dropped", f"the backlog is full: messages on {channel!r} are dropped"
                )

    def _request(self, envelope: RequestEnvelope) -> Request:
        reply_to = envelope.reply_to
        if reply_to is not None and not is_reply_channel(reply_to):
            self._incidents.report(
                "bad_reply_to",
                lambda: f"no replies go to {_shown(str(reply_to))}: not a caller's channel",
            )
            return ActionRequest(envelope, self._service, None)
        return ActionRequest(envelope, self._service, reply_to)

    def _refuse_unread(self, data: bytes, error: BadMessage) -> None:
        """A request that cannot be read is answered if it at least says where to."""
        reason = error.reason
        self._incidents.report("bad_message", lambda: f"refused a message: {printable(reason)}")
        reply_to, request_id = decode_ids(data, self._max_bytes)
        if reply_to is not None and is_reply_channel(reply_to):
            envelope = ErrorEnvelope(reason, Code.BAD_REQUEST, request_id)
            self._outlet.publish(reply_to, self._outlet.encode(envelope))

    def _refuse(self, response: Response, code: str, text: str) -> Receivers | None:
        try:
            return response.refuse(code, text)
        except DaebusError:
            self._incidents.report("reply_lost", "a refusal could not be sent")
            return None

    def _unknown(self, action: str) -> str:
        known = ", ".join(sorted(self._actions)) or "none"
        return f"there is no action {_shown(action)}; service {self._service!r} has: {known}"


def _shown(name: str) -> str:
    """A name from outside, as it may stand in a log line or an error."""
    return repr(name if len(name) <= MAX_NAME_LENGTH else f"{name[:MAX_NAME_LENGTH]}…")
