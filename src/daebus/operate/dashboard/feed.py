"""The live events of all open pages: one look each second for all of them, while there is one.

Belongs to the event loop. Looking blocks, so it happens in a thread that the feed owns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import msgspec

from daebus.logs import get_logger
from daebus.operate.dashboard.history import History, Point
from daebus.operate.fleet import Fleet

log = get_logger(__name__)

#: Seconds from one look to the next.
EVERY_S = 1.0

#: How long a browser waits before it connects again, in milliseconds.
RETRY_MS = 1_000


class Feed:
    """What happens, as Server-Sent Events (HTML Living Standard, section 9.2).

    Args:
        look: gives what there is now; may block.
        about: what a page is told first.
    """

    def __init__(self, look: Callable[[], Fleet], about: dict[str, Any]) -> None:
        self._look = look
        self._about = about
        self._history = History()
        self._latest = b""
        self._number = 0
        self._pages = 0
        self._is_wanted = asyncio.Event()
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Look each second while a page is open; until it is cancelled."""
        with ThreadPoolExecutor(1, "daebus-fleet") as thread:
            while True:
                await self._is_wanted.wait()
                next_at = monotonic() + EVERY_S
                await self._take(thread)
                await asyncio.sleep(max(next_at - monotonic(), 0))

    async def events(self) -> AsyncIterator[bytes]:
        """The events for one page: `hello` once, then `fleet` again and again.

        A page that is slow misses some; it always gets the newest.
        """
        self._pages += 1
        self._is_wanted.set()
        try:
            hello = {**self._about, "points": self._history.points()}
            yield b"retry: %d\n" % RETRY_MS + _event("hello", hello)
            while True:
                number = self._number
                async with self._changed:
                    await self._changed.wait_for(lambda: self._number != number)  # noqa: B023
                yield self._latest
        finally:
            self._pages -= 1
            if self._pages == 0:
                self._is_wanted.clear()

    async def _take(self, thread: ThreadPoolExecutor) -> None:
        fleet = await asyncio.get_running_loop().run_in_executor(thread, self._look)
        point = Point.of(fleet)
        self._history.add(point)
        async with self._changed:
            self._latest = _event("fleet", {"fleet": fleet, "point": point})
            self._number += 1
            self._changed.notify_all()


def _event(kind: str, value: Any) -> bytes:
    """One event; JSON of msgspec has no line break in it."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(value))
