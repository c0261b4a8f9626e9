"""Traces: whether they are wanted, and how a trace goes on in the headers of a `Record`.

OpenTelemetry's API is imported only where traces are wanted, by `spans`.
"""

from __future__ import annotations

import sys

from turbo_queue import settings
from turbo_queue.errors import SettingsError
from turbo_queue.records import Header


def is_wanted(given: bool | None) -> bool:  # noqa: FBT001 - None is the third case
    """Whether spans are to be made: `given`, else `TURBO_QUEUE_TRACES`, else not.

    Raises:
        SettingsError: they are wanted, and OpenTelemetry's API is not installed, or there is no
            propagator that `OTEL_PROPAGATORS` names.
    """
    if not settings.flag("traces", given):
        return False
    try:
        import opentelemetry.propagate  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise SettingsError(
            "traces need OpenTelemetry's API, which is not installed: pip install 'daebus[traces]'"
        ) from None
    except ValueError as error:
        raise SettingsError(f"traces cannot be made as OTEL_PROPAGATORS says: {error}") from None
    return True


def current_headers() -> tuple[Header, ...]:
    """The headers that carry the current trace on; none where this thread or task is in no span.

    For a `Record` that is put into a queue, and for the headers of a Kafka message. A pipeline with
    `traces=True` goes on with the trace.

    Example:
        >>> from turbo_queue.pipeline import Record
        >>> Record({"id": 1}, headers=current_headers())
        Record(value={'id': 1}, key=None, headers=(), timestamp_ms=None, origin='')
    """
    if "opentelemetry.trace" not in sys.modules:
        return ()  # Nobody can have begun a span.
    from turbo_queue import spans  # noqa: PLC0415 - an extra

    return spans.headers_of()
