"""Traces: whether they are wanted, and what of a trace travels in the headers of a request.

OpenTelemetry's API is imported only where traces are wanted: by `spans`, which is imported from
here and from the two places that make spans, the calls of callers and the handlers of services.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from daebus import settings
from daebus.errors import SettingsError

#: The header that says which span a request comes from, and the one that says more about it
#: (W3C Trace Context).
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"

#: What goes from a request to those that its handler makes, also in a service that does not trace
#: (besides the two: W3C Baggage).
HEADERS = (TRACEPARENT, TRACESTATE, "baggage")

#: A longer value, in characters, is nobody's trace: the most that W3C Baggage asks anybody to carry
#: on, and W3C Trace Context for less.
MAX_VALUE_LENGTH = 8192


def is_wanted(given: bool | None) -> bool:  # noqa: FBT001 - None is the third case
    """Whether spans are to be made: `given`, else `DAEBUS_TRACES`, else not.

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


def current_headers() -> dict[str, str]:
    """The headers that stand for the span that this thread or task is in; none if it is in none.

    Example:
        >>> current_headers()
        {}
    """
    spans = sys.modules.get("daebus.spans")  # Not there where nobody traces.
    return {} if spans is None else spans.headers_of()


def passed_on(
    theirs: Mapping[str, str], headers: Mapping[str, str] | None
) -> dict[str, str] | None:
    """The headers of a request that a handler sends: its own, and the trace that it is a part of.

    Args:
        theirs: the headers that stand for that trace.
        headers: what the handler gave; it stands above them.

    Example:
        >>> passed_on({"traceparent": "00-1-2-01", "user": "ada"}, {"shop": "1"})
        {'traceparent': '00-1-2-01', 'shop': '1'}
    """
    own = dict(headers or {})
    # A state belongs to the parent beside which it stands.
    names = HEADERS if TRACEPARENT not in own else HEADERS[2:]
    carried = {
        name: value
        for name in names
        if (value := theirs.get(name)) is not None and len(value) <= MAX_VALUE_LENGTH
    }
    return carried | own or None
