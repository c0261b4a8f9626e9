"""Responses that come in parts, until they end, the browser goes, or the server stops."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.types import Receive, Scope, Send

from daebus.operate.web.server import ClientGone, Ending


class Streamed:
    """A response whose parts are sent as they come. The request's body must have been read.

    Args:
        parts: the parts; closed at the end, whatever ends it.
        kind: their media type.
        ending: the server's.
        is_endless: whether the parts never end by themselves.
    """

    def __init__(
        self, parts: AsyncGenerator[bytes], kind: str, ending: Ending, *, is_endless: bool = False
    ) -> None:
        self._parts = parts
        self._kind = kind
        self._ending = ending
        self._is_endless = is_endless

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        headers = [
            (b"content-type", self._kind.encode()),
            (b"x-accel-buffering", b"no"),  # nginx would hold the parts back.
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async with self._ending.unless_gone(receive, is_endless=self._is_endless):
                async for part in self._parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        except ClientGone:
            pass
        finally:
            await self._parts.aclose()
        await send({"type": "http.response.body", "body": b""})
