"""Handlers with a span each, from the call of the handler's function to its end.

Imported only where traces are wanted. The span belongs to the trace that the request's headers
say; it is what the handler's own spans and calls belong to. A message that is delivered again
gets a span again, in the same trace.
"""

from __future__ import annotations

import functools
import inspect
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from daebus.bus.commands import Receivers
from daebus.channels import MAX_NAME_LENGTH, is_pattern
from daebus.errors import Code
from daebus.service.context import current
from daebus.service.exchange import Exchange
from daebus.service.registry import Function
from daebus.service.request import Request
from daebus.service.response import Response
from daebus.service.routes import Route
from daebus.spans import (
    STATUS_CODE,
    context_of,
    fail,
    fail_with_code,
    messaging_attributes,
    rpc_attributes,
    tracer,
)

#: A span's name, its kind and what it says of a message.
Description = tuple[str, SpanKind, dict[str, str]]
Describe = Callable[[Exchange], Description]


def with_span(service: str, route: Route) -> Route:
    """The same route, whose function makes a span."""
    describe = _of_action(service, route.name) if route.is_action else _of_listener(route.name)
    return replace(route, function=_around(route.function, describe))


def _of_action(service: str, name: str) -> Describe:
    """A server's span, or a consumer's where nobody waits for the answer."""
    method = f"{service}/{name}"
    answered = (method, SpanKind.SERVER, rpc_attributes(service, name))
    unanswered = _consumer(method)

    def describe(exchange: Exchange) -> Description:
        return unanswered if exchange.request.reply_to is None else answered

    return describe


def _of_listener(channel: str) -> Describe:
    name, kind, attributes = _consumer(channel)
    if is_pattern(channel):
        attributes["messaging.destination.template"] = channel

    def describe(exchange: Exchange) -> Description:
        channel = exchange.request.channel[:MAX_NAME_LENGTH]
        return name, kind, {**attributes, "messaging.destination.name": channel}

    return describe


def _consumer(destination: str) -> Description:
    attributes = messaging_attributes("process", destination)
    return f"process {destination}", SpanKind.CONSUMER, attributes


def _facts(exchange: Exchange) -> dict[str, str | int | float]:
    """What is known of the message; what others chose is cut: thousands of spans wait in memory."""
    request = exchange.request
    facts: dict[str, str | int | float] = {
        "daebus.delivery_count": request.delivery_count,
        "daebus.waited_s": monotonic() - exchange.received_at,
    }
    if request.message_id is not None:
        facts["messaging.message.id"] = request.message_id[:MAX_NAME_LENGTH]
    if request.service is not None:
        facts["daebus.caller"] = request.service[:MAX_NAME_LENGTH]
    return facts


def _around(function: Function, describe: Describe) -> Function:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def traced_async(*arguments: Any) -> Any:
            with _in_span(describe):
                return await function(*arguments)

        return traced_async

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with _in_span(describe):
            return function(*arguments)

    return traced


@contextmanager
def _in_span(describe: Describe) -> Iterator[None]:
    """Run a handler in its span."""
    exchange = current.get()
    assert exchange is not None  # noqa: S101 - set by whoever calls the function
    context = context_of(exchange.request.headers)
    name, kind, attributes = describe(exchange)
    span = tracer.start_span(name, context, kind, {**attributes, **_facts(exchange)})
    token = attach(set_span_in_context(span, context))
    response = exchange.response
    if exchange.request.reply_to is not None:
        exchange.response = _WatchedResponse(exchange.request, response, span)
    try:
        yield
    except BaseException as error:
        fail(span, error)
        # Why an async handler is cancelled, and what its caller is told, is not known here.
        if exchange.request.reply_to is not None and not isinstance(error, CancelledError):
            span.set_attribute(STATUS_CODE, Code.HANDLER_ERROR)
        raise
    finally:
        exchange.response = response
        detach(token)
        span.end()


class _WatchedResponse(Response):
    """Notes in the span what error is sent, by the handler or by the watch on its time limit."""

    __slots__ = ("_response", "_span")

    def __init__(self, request: Request, response: Response, span: Span) -> None:
        self._request = request
        self._response = response
        self._span = span

    @property
    def is_answered(self) -> bool:
        """See `Response`."""
        return self._response.is_answered

    def send(self, payload: Any = None, final: bool = True) -> Receivers:  # noqa: FBT001, FBT002
        """See `Response`."""
        return self._response.send(payload, final)

    success = send

    def refuse(self, code: str, text: str) -> Receivers:
        """See `Response`."""
        receivers = self._response.refuse(code, text)
        if self._span.is_recording():  # The handler may have returned meanwhile.
            fail_with_code(self._span, code, text)
        return receivers
