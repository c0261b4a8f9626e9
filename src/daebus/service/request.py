"""What a handler reads: the message that it handles."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from types import MappingProxyType
from typing import Any

import msgspec

from daebus.messages import RequestEnvelope, decode_payload

_NOT_DECODED: Any = object()
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Request:
    """One message as its handler sees it: a request for an action, or a published message.

    Attributes:
        action: the action asked for; None in a listener.
        channel: the channel that it came on.
        reply_to: the channel that the response goes to; None when no reply is wanted.
        request_id: the request's id, chosen by the caller.
        service: the service that sent it; None for a bare caller.
        headers: what the caller passed along, by name.
        idempotency_key: the caller's name for what is to be done once.
        is_stream: whether the caller takes each response, and not only the final one.
        message_id: the same however often the message is delivered; the caller's `request_id`
            where it is delivered once at most.
        delivery_count: how often it was delivered, this time counted. Above 1 it is a redelivery,
            and may have been handled before.
    """

    __slots__ = ("_payload", "channel", "delivery_count", "message_id", "raw_payload")

    # A published message has none of these, and costs nothing for them.
    action: str | None = None
    reply_to: str | None = None
    request_id: str | int | None = None
    service: str | None = None
    headers: Mapping[str, str] = _NO_HEADERS
    idempotency_key: str | None = None
    is_stream = False
    wire_version: int | msgspec.UnsetType = msgspec.UNSET
    is_expired = False
    is_cancelled = False

    def __init__(self, raw_payload: bytes | msgspec.Raw, channel: str) -> None:
        self.raw_payload = raw_payload
        self.channel = channel
        self._payload = _NOT_DECODED
        self.message_id: str | None = None
        self.delivery_count = 1

    @property
    def payload(self) -> Any:
        """The payload: any JSON value; `{}` when the request had none.

        Raises:
            BadMessage: it is not valid JSON (only where the handler takes typed parameters; else
                it was decoded before the handler was called).
        """
        if self._payload is _NOT_DECODED:
            self._payload = decode_payload(self.raw_payload)
        return self._payload

    def remaining(self) -> float | None:
        """Seconds until the caller gives up, 0.0 when it has; None when it set no limit."""
        return None

    def on_partial_response(self) -> None:
        """A response that is not final was sent."""

    def on_cancelled(self) -> None:
        """The caller has cancelled the request."""

    def __repr__(self) -> str:
        return f"<request {self.request_id!r} action={self.action!r} channel={self.channel!r}>"


class ActionRequest(Request):
    """A request for an action.

    Args:
        envelope: the request as it came.
        channel: the service's channel.
        reply_to: where the reply goes, if the envelope's may be answered.
        age_s: how long ago it was sent, as far as it had to wait elsewhere.
    """

    __slots__ = (
        "_deadline_at",
        "_was_cancelled",
        "action",
        "headers",
        "idempotency_key",
        "is_stream",
        "reply_to",
        "request_id",
        "service",
        "wire_version",
    )

    def __init__(
        self, envelope: RequestEnvelope, channel: str, reply_to: str | None, age_s: float = 0.0
    ) -> None:
        self.raw_payload = envelope.payload
        self.channel = channel
        self._payload = _NOT_DECODED
        self.action = envelope.action
        self.reply_to = reply_to
        self.request_id = request_id = envelope.request_id
        self.message_id = None if request_id is None else str(request_id)
        self.delivery_count = 1
        self.service = envelope.service
        self.wire_version = envelope.v
        self.headers = envelope.headers or _NO_HEADERS
        timeout_ms = envelope.timeout_ms
        self._was_cancelled = False
        self.is_stream = envelope.stream
        self.idempotency_key = envelope.idempotency_key
        self._deadline_at = None if timeout_ms is None else monotonic() + timeout_ms / 1000 - age_s

    @property
    def is_expired(self) -> bool:  # type: ignore[override]
        """Whether the caller has given up by now."""
        return self._deadline_at is not None and monotonic() >= self._deadline_at

    @property
    def is_cancelled(self) -> bool:  # type: ignore[override]
        """Whether nobody wants the result: the caller has cancelled the request, or given up.

        A handler that works for long in a thread looks at it now and then: it cannot be stopped.
        """
        return self._was_cancelled or (self.reply_to is not None and self.is_expired)

    def on_partial_response(self) -> None:
        """A response that is not final: who takes each of them waits as long for the next one."""
        if self.is_stream:
            self._deadline_at = None

    def on_cancelled(self) -> None:
        """See `Request`."""
        self._was_cancelled = True

    def remaining(self) -> float | None:
        """See `Request`."""
        if self._deadline_at is None:
            return None
        return max(0.0, self._deadline_at - monotonic())
