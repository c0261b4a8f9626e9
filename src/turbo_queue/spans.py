"""From the headers of records to OpenTelemetry's contexts and back; its tracer and its flush.

Imported only where there are spans, because it imports OpenTelemetry's API. The spans go to the
tracer provider of the program; where there is none, they go nowhere.
"""

from __future__ import annotations

import threading
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, inject

from turbo_queue.records import Header, Record

#: Which semantic conventions the names of the attributes follow.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

#: A longer value, in characters, is nobody's trace: the most that W3C Baggage asks anybody to carry
#: on, and W3C Trace Context for less.
MAX_VALUE_LENGTH = 8192

#: How long a process that ends waits for its last spans to be exported, in seconds.
FLUSH_S = 2.0

#: Made once: with no provider yet, it finds the one that is set later.
tracer = trace.get_tracer("turbo_queue", version("daebus"), schema_url=SCHEMA_URL)


def headers_of(context: Context | None = None) -> tuple[Header, ...]:
    """The headers that stand for a context; for the current one if None."""
    carrier: dict[str, str] = {}
    inject(carrier, context)
    return tuple((name, value.encode()) for name, value in carrier.items())


def context_of(record: Record) -> Context:
    """What the headers of a record say of its trace; an empty context if that is nothing.

    Values that would not stay within one line, or are too long, are left out: the API logs what it
    cannot read.
    """
    return extract(_texts(record.headers), Context())


def flush() -> None:
    """Have the provider export what it still holds; for a process that ends without its exit."""
    export = getattr(trace.get_tracer_provider(), "force_flush", None)
    if export is None:
        return
    # An exporter whose collector is away tries again for long.
    flushing = threading.Thread(target=export, name="turbo-queue-flush", daemon=True)
    flushing.start()
    flushing.join(FLUSH_S)


def _texts(headers: tuple[Header, ...]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in headers:
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        if isinstance(text, str) and len(text) <= MAX_VALUE_LENGTH and text.isprintable():
            texts[name] = text
    return texts
