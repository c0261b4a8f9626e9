"""Server-Sent Events: how they are written (HTML Living Standard, 9.2), and a stream of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from daebus.operate.web.server import Send

T = TypeVar("T")

#: After so long without an event a comment is sent, in seconds: proxies end what is silent.
KEEP_ALIVE_S = 15.0

KEEP_ALIVE = b": still there\n\n"

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back.
]


class EventWriter:
    """A response that is a stream of events; it begins with the first one.

    Args:
        send: the ASGI function.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_begun = False

    async def write(self, data: bytes) -> None:
        """Send an event, or a comment."""
        if not self.is_begun:
            self.is_begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """There is no more."""
        await self._send({"type": "http.response.body", "body": b""})


def event(kind: str, data: bytes, number: int | None = None) -> bytes:
    r"""An event as it is written.

    Args:
        kind: its name.
        data: its data: text in UTF-8.
        number: its id; None for none.

    Example:
        >>> event("message", b'{"step": 1}', 0)
        b'id: 0\nevent: message\ndata: {"step": 1}\n\n'
    """
    lines = [f"event: {kind}".encode()]
    if number is not None:
        lines.insert(0, b"id: %d" % number)
    # A line break would end the field; the reader puts the lines together again.
    lines += [b"data: " + line for line in data.splitlines() or [b""]]
    return b"\n".join(lines) + b"\n\n"


async def next_within(items: AsyncIterator[T], seconds: float) -> T | None:
    """The next item; None if none came in time.

    Args:
        items: an iterator that loses nothing when a wait for its next item is cancelled.
        seconds: how long to wait.

    Raises:
        StopAsyncIteration: there are no more.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await anext(items)
    except TimeoutError:
        if limit.expired():
            return None
        raise  # What the iterator says itself.
