"""What a client asks for: its body, its time limit, its headers, and what it wants back."""

from __future__ import annotations

import asyncio
import math

from starlette.requests import ClientDisconnect, Request

from daebus.operate.gateway.limits import Refused
from daebus.operate.web.http_errors import Problem
from daebus.operate.web.server import ClientGone
from daebus.tracing import HEADERS

#: How long a client may take to send its body, in seconds.
BODY_S = 30.0


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body of a request.

    Args:
        request: the request.
        max_bytes: a larger body is refused before it is read.

    Raises:
        Refused: it is too large, is compressed, or did not come in time.
        ClientGone: the client went away.
    """
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise Refused(_too_large(max_bytes))
    if (coding := request.headers.get("content-encoding", "identity")).lower() != "identity":
        raise Refused(_encoded(coding), {"accept-encoding": "identity"})
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > max_bytes:
                    raise Refused(_too_large(max_bytes))
    except TimeoutError:
        problem = Problem(408, "body_timeout", "The body did not come in time")
        raise Refused(problem, {"connection": "close"}) from None
    except ClientDisconnect:
        raise ClientGone from None
    return bytes(body)


def asked_timeout_s(request: Request, default_s: float, max_s: float) -> float:
    """How long the client wants to wait, in seconds: `?timeout=` or `Request-Timeout`.

    Args:
        request: the request.
        default_s: what counts if it does not say so.
        max_s: the longest that it may.

    Raises:
        Refused: it is no time.
    """
    text = request.query_params.get("timeout") or request.headers.get("request-timeout")
    if text is None:
        return min(default_s, max_s)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        detail = f"{text[:50]!r} is no number of seconds above 0"
        raise Refused(Problem(400, "bad_request", "The time limit makes no sense", detail))
    return min(seconds, max_s)


def passed_headers(request: Request) -> dict[str, str] | None:
    """The headers that the service gets: those of W3C Trace Context and Baggage."""
    found = {name: request.headers[name] for name in HEADERS if name in request.headers}
    return found or None


def wants_events(request: Request) -> bool:
    """Whether the client asks for Server-Sent Events."""
    accepted = request.headers.get("accept", "").lower().split(",")
    return any(each.split(";")[0].strip() == "text/event-stream" for each in accepted)


def wants_no_answer(request: Request) -> bool:
    """Whether the client asks not to wait for the result (RFC 7240)."""
    preferred = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return any(each.split(";")[0].strip() == "respond-async" for each in preferred)


def _too_large(max_bytes: int) -> Problem:
    detail = f"the body is larger than the {max_bytes:,} bytes that are allowed"
    return Problem(413, "too_large", "The message is too large", detail)


def _encoded(coding: str) -> Problem:
    detail = f"it came as {coding[:50]!r}; send the JSON as it is"
    return Problem(415, "encoded_body", "The body must not be compressed", detail)
