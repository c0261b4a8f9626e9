"""What a handler reads: the message that it handles."""

from __future__ import annotations

from time import monotonic
from typing import Any

import msgspec

from daebus.messages import decode_payload

_NOT_DECODED = object()


class Request:
    """One message as its handler sees it: a request for an action, or a published message.

    Attributes:
        action: the action asked for; None in a listener.
        channel: the channel that it came on.
        reply_to: the channel that the response goes to; None when no reply is wanted.
        request_id: the request's id, chosen by the caller.
        service: the service that sent it; None for a bare caller.
        headers: what the caller passed along, by name.
    """

    __slots__ = (
        "_deadline_at",
        "_payload",
        "action",
        "channel",
        "headers",
        "raw_payload",
        "reply_to",
        "request_id",
        "service",
    )

    def __init__(
        self,
        raw_payload: bytes | msgspec.Raw,
        channel: str,
        *,
        action: str | None = None,
        reply_to: str | None = None,
        request_id: str | int | None = None,
        service: str | None = None,
        headers: dict[str, str] | None = None,
        timeout_ms: float | None = None,
    ) -> None:
        self.raw_payload = raw_payload
        self.channel = channel
        self.action = action
        self.reply_to = reply_to
        self.request_id = request_id
        self.service = service
        self.headers = headers or {}
        self._payload: Any = _NOT_DECODED
        self._deadline_at = None if timeout_ms is None else monotonic() + timeout_ms / 1000

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
        if self._deadline_at is None:
            return None
        return max(0.0, self._deadline_at - monotonic())

    @property
    def is_expired(self) -> bool:
        """Whether the caller has given up by now."""
        return self._deadline_at is not None and monotonic() >= self._deadline_at

    def __repr__(self) -> str:
        return f"<request {self.request_id!r} action={self.action!r} channel={self.channel!r}>"
