"""Calls with a span each: it begins where the call is made, and ends with its final reply.

Imported only where traces are wanted. The span's context goes into the request's headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import Span, SpanKind, set_span_in_context

from daebus.client.calling import Calling
from daebus.errors import Code, RemoteError
from daebus.spans import (
    fail,
    fail_with_code,
    headers_of,
    messaging_attributes,
    parent_of,
    rpc_attributes,
    tracer,
)

#: The headers of a request, as a user gives them.
Headers = dict[str, str] | None


class TracedCalling(Calling):
    """See `Calling`."""

    def call(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        headers: Headers,
        idempotency_key: str | None,
    ) -> Any:
        """See `Calling`."""
        span = self._begin(action, headers)
        with _failing(span):
            result = super().call(action, payload, timeout, _with(span, headers), idempotency_key)
        span.end()
        return result

    def submit(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        headers: Headers,
        idempotency_key: str | None,
    ) -> Future[Any]:
        """See `Calling`."""
        span = self._begin(action, headers)
        with _failing(span):
            future = super().submit(action, payload, timeout, _with(span, headers), idempotency_key)

        def end(future: Future[Any]) -> None:
            error = CancelledError() if future.cancelled() else future.exception()
            if error is None:
                span.end()
            else:
                _end_with(span, error)

        future.add_done_callback(end)
        return future

    def stream(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        headers: Headers,
        idempotency_key: str | None,
    ) -> Iterator[Any]:
        """See `Calling`."""
        span = self._begin(action, headers)
        with _failing(span):
            responses = super().stream(
                action, payload, timeout, _with(span, headers), idempotency_key
            )
        watched = _watched(responses, span)
        next(watched)  # From here on, whatever ends it ends the span.
        return watched

    def send(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        headers: Headers,
        idempotency_key: str | None,
        *,
        expires: float | None,
    ) -> int:
        """See `Calling`."""
        destination = f"{self._service}/{action}"
        span = tracer.start_span(
            f"send {destination}",
            parent_of(headers),
            SpanKind.PRODUCER,
            messaging_attributes("send", destination),
        )
        with _failing(span):
            receivers = super().send(
                action, payload, timeout, _with(span, headers), idempotency_key, expires=expires
            )
        span.set_attribute("daebus.receivers", receivers)
        span.end()
        return receivers

    def _begin(self, action: str, headers: Headers) -> Span:
        """The span of a request that is answered."""
        return tracer.start_span(
            f"{self._service}/{action}",
            parent_of(headers),
            SpanKind.CLIENT,
            rpc_attributes(self._service, action),
        )


def _with(span: Span, headers: Headers) -> dict[str, str]:
    """The headers of a request that belongs to a span."""
    return {**(headers or {}), **headers_of(set_span_in_context(span, parent_of(headers)))}


def _watched(responses: Iterator[Any], span: Span) -> Iterator[Any]:
    with _failing(span):
        yield None
        yield from responses
    span.end()


@contextmanager
def _failing(span: Span) -> Iterator[None]:
    """End a span with whatever is raised."""
    try:
        yield
    except BaseException as error:
        _end_with(span, error)
        raise


def _end_with(span: Span, error: BaseException) -> None:
    if isinstance(error, RemoteError):
        fail_with_code(span, error.code, error.message)
    elif isinstance(error, CancelledError | GeneratorExit):  # Or a stream was closed.
        fail_with_code(span, Code.CANCELLED, "the caller cancelled it")
    else:
        fail(span, error)
    span.end()
