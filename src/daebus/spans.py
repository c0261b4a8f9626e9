"""Spans as OpenTelemetry has them; the names are those of its semantic conventions 1.44.

Imported only where traces are wanted, because it imports OpenTelemetry's API. The spans go to the
tracer provider of the program; where there is none, they go nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import Span, StatusCode

from daebus.logs import describe
from daebus.tracing import MAX_VALUE_LENGTH, TRACEPARENT

#: Which conventions the names of the attributes follow.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

#: What stands for this system in attributes.
SYSTEM = "daebus"

#: The wire's code of the error that an answer brings.
STATUS_CODE = "rpc.response.status_code"

#: Made once: with no provider yet, it finds the one that is set later.
tracer = trace.get_tracer("daebus", version("daebus"), schema_url=SCHEMA_URL)


def rpc_attributes(service: str, action: str) -> dict[str, str]:
    """What a span says of a request that is answered."""
    return {"rpc.system.name": SYSTEM, "rpc.method": f"{service}/{action}"}


def messaging_attributes(operation: str, destination: str) -> dict[str, str]:
    """What a span says of a message that nobody answers."""
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
    }


def context_of(headers: Mapping[str, str]) -> Context:
    """What the headers of a request say of its trace; an empty context if that is nothing.

    Values that would not stay within one line, or are too long, are left out: the API logs what it
    cannot read.
    """
    carrier = {
        name: value
        for name, value in headers.items()
        if len(value) <= MAX_VALUE_LENGTH and value.isprintable()
    }
    return extract(carrier, Context())


def parent_of(headers: Mapping[str, str] | None) -> Context | None:
    """Where a request that is sent belongs: to what its headers say, else to where it is sent."""
    return context_of(headers) if headers is not None and TRACEPARENT in headers else None


def headers_of(context: Context | None = None) -> dict[str, str]:
    """The headers that stand for a context; for the current one if None."""
    carrier: dict[str, str] = {}
    inject(carrier, context)
    return carrier


def fail(span: Span, error: BaseException) -> None:
    """Say in a span that it ended with an exception."""
    try:
        span.record_exception(error)
    except BaseException:  # noqa: BLE001, S110 - the user's __str__ may raise anything
        pass
    span.set_attribute("error.type", _name_of(type(error)))
    span.set_status(StatusCode.ERROR, describe(error))


def fail_with_code(span: Span, code: str, text: str) -> None:
    """Say in a span that it ended with an error of the wire."""
    span.set_attributes({"error.type": code, STATUS_CODE: code})
    span.set_status(StatusCode.ERROR, text)


def _name_of(kind: type[BaseException]) -> str:
    builtin = kind.__module__ == "builtins"
    return kind.__qualname__ if builtin else f"{kind.__module__}.{kind.__qualname__}"
