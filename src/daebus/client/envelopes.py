"""The requests that a caller sends: checked, and encoded once."""

from __future__ import annotations

from typing import Any

from daebus.bus import shared
from daebus.bus.shared import Handled, handled
from daebus.channels import check_name
from daebus.errors import CallTimeout
from daebus.messages import WIRE_VERSION, RequestEnvelope, encode
from daebus.tracing import current_headers, passed_on

#: Most names of actions that are remembered to be right.
MAX_CHECKED = 1000


class Envelopes:
    """Makes requests.

    Args:
        max_bytes: larger ones are refused.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._checked: set[str] = set()

    def make(
        self,
        action: str,
        payload: Any,
        timeout_s: float | None,
        headers: dict[str, str] | None,
        idempotency_key: str | None,
    ) -> RequestEnvelope:
        """A request, as far as it is known without a call.

        Raises:
            SettingsError: the action or the key has no name that can be one.
        """
        if action not in self._checked:
            check_name("action", action)
            if len(self._checked) < MAX_CHECKED:
                self._checked.add(action)
        if idempotency_key is not None:
            check_name("idempotency key", idempotency_key)
        service = shared.home_service.get()
        if service is not None:  # Else no handler runs here.
            headers = _in_its_trace(headers)
        return RequestEnvelope(
            action,
            payload,
            None,
            None,
            service,
            None if timeout_s is None else timeout_s * 1000,
            headers,
            idempotency_key,
            v=WIRE_VERSION,
        )

    def encode(self, envelope: RequestEnvelope) -> bytes:
        """The bytes of a request.

        Raises:
            BadMessage: the payload cannot be sent as JSON, or is too large (`TooLarge`).
        """
        return encode(envelope, self._max_bytes)


def _in_its_trace(headers: dict[str, str] | None) -> dict[str, str] | None:
    """The headers of a request that a handler sends: the trace goes on, also if nobody traces."""
    message = handled.get()
    if message is None or not (trace := current_headers() or message.headers):
        return headers
    return passed_on(trace, headers)


def inherited_s(message: Handled, service: str, action: str, timeout_s: float) -> float:
    """How long a handler's call may take: no longer than the handler's own caller waits.

    Args:
        message: the one that is being handled.
        service: whom the call is for.
        action: what it asks for.
        timeout_s: how long it would wait otherwise.

    Raises:
        CallTimeout: the handler's caller has given up already.
    """
    remaining_s = message.remaining_s()
    if remaining_s is None:
        return timeout_s
    if remaining_s <= 0:
        raise CallTimeout(service, action, 0.0)
    return min(timeout_s, remaining_s)
