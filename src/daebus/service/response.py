"""What a handler sends: any number of responses that are not final, and one that is."""

from __future__ import annotations

import threading
from typing import Any

from daebus.bus.commands import Receivers, ReplyPublication, publish
from daebus.bus.link import Link
from daebus.errors import AlreadyAnswered, Code, TooLarge
from daebus.messages import ErrorEnvelope, ReplyEnvelope, StreamEnvelope, encode
from daebus.service.request import Request

#: What is left of an error's text that is too large for a message, in characters.
MAX_CUT = 100


class Outlet:
    """Where a service's replies leave: its link, and the limit on their size."""

    __slots__ = ("_link", "_max_bytes")

    def __init__(self, link: Link, max_bytes: int) -> None:
        self._link = link
        self._max_bytes = max_bytes

    def encode(self, envelope: object) -> bytes:
        """The bytes of a reply.

        Raises:
            BadMessage: it cannot be sent as JSON, or is too large.
        """
        return encode(envelope, self._max_bytes)

    def publish(self, channel: str, data: bytes) -> Receivers:
        """Send a reply; one that was under way when the connection broke is sent again.

        Raises:
            ServerUnavailable: the server takes nothing, and as much as memory may hold waits.
        """
        publication = ReplyPublication(publish(channel.encode(), data))
        self._link.send(publication)
        return publication


class Response:
    """Answers one request. Where no reply is wanted it sends nothing and tells 0 receivers."""

    __slots__ = ("_final", "_outlet", "_request", "_seq")

    def __init__(self, request: Request, outlet: Outlet) -> None:
        self._request = request
        self._outlet = outlet
        # Taken by whoever sends the final response: the handler, or the watch on its time limit.
        self._final = threading.Lock()
        self._seq = 0

    @property
    def is_answered(self) -> bool:
        """Whether the final response was sent."""
        return self._final.locked()

    def send(self, payload: Any = None, final: bool = True) -> Receivers:  # noqa: FBT001, FBT002
        """Send a response.

        Args:
            payload: any value that msgspec encodes as JSON.
            final: False for one of several; the caller's `stream` yields each.

        Returns:
            How many received it: 0 when the caller has gone. The number is waited for only when
            it is looked at.

        Raises:
            AlreadyAnswered: the final response was sent before.
            BadMessage: it cannot be sent as JSON, or is too large (`TooLarge`).
        """
        request = self._request
        if final:
            envelope = ReplyEnvelope("success", payload, request.request_id, v=request.wire_version)
        else:
            envelope = StreamEnvelope(
                "success",
                payload,
                request.request_id,
                final=False,
                seq=self._seq,
                v=request.wire_version,
            )
        return self._send(envelope, final=final)

    success = send

    def error(self, error: object) -> Receivers:
        """Send an error as the final response.

        Args:
            error: a text, or an exception whose text is sent.

        Returns:
            How many received it.

        Raises:
            AlreadyAnswered: the final response was sent before.
        """
        return self.refuse(Code.ERROR, _text_of(error))

    def refuse(self, code: str, text: str) -> Receivers:
        """Send an error with a code of the wire, as the final response."""
        try:
            return self._refuse(code, text)
        except TooLarge:
            # The caller shall not wait in vain because the reason is long.
            return self._refuse(code, f"{text[:MAX_CUT]}… ({len(text):,} characters)")

    def _refuse(self, code: str, text: str) -> Receivers:
        request = self._request
        envelope = ErrorEnvelope(text, code, request.request_id, v=request.wire_version)
        return self._send(envelope, final=True)

    def _send(self, envelope: object, *, final: bool) -> Receivers:
        reply_to = self._request.reply_to
        # What cannot be encoded raises before anything is taken, and leaves room for an error.
        data = self._outlet.encode(envelope) if reply_to is not None else b""
        if not final:
            if self._final.locked():
                raise AlreadyAnswered(self._request.action, self._request.request_id)
            self._seq += 1
            self._request.on_partial_response()
        elif not self._final.acquire(blocking=False):
            raise AlreadyAnswered(self._request.action, self._request.request_id)
        if reply_to is None:
            return Receivers.known(0)
        return self._outlet.publish(reply_to, data)


class NoResponse(Response):
    """The response to a published message, to which nobody waits for a reply: it sends nothing."""

    __slots__ = ()

    is_answered = True  # There is nothing to answer.

    def __init__(self) -> None:
        """Needs nothing; one serves all listeners."""

    def send(self, payload: Any = None, final: bool = True) -> Receivers:  # noqa: ARG002, FBT001, FBT002
        """Send nothing."""
        return Receivers.known(0)

    success = send

    def refuse(self, code: str, text: str) -> Receivers:  # noqa: ARG002
        """Send nothing."""
        return Receivers.known(0)


NO_RESPONSE = NoResponse()


def _text_of(error: object) -> str:
    if isinstance(error, BaseException):
        try:
            return str(error) or type(error).__name__
        except BaseException:  # noqa: BLE001 - the user's __str__ may raise anything
            return type(error).__name__
    return str(error)
