"""The live events of all open pages: one look each second for all of them, while there is one.

Belongs to the event loop; looking blocks, so it happens in a thread (see `looking`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from daebus.operate.dashboard.history import History, Point
from daebus.operate.fleet.looking import Looker
from daebus.operate.fleet.views import Fleet
from daebus.operate.fleet.watch import FleetWatch
from daebus.operate.web.event_stream import event

#: Seconds from one look to the next.
EVERY_S = 1.0

#: How long a browser waits before it connects again, in milliseconds.
RETRY_MS = 1_000


class Feed:
    """What happens, as Server-Sent Events (HTML Living Standard, section 9.2).

    Args:
        watch: looks around; closed at the end.
        about: what a page is told first.
    """

    def __init__(self, watch: FleetWatch, about: dict[str, Any]) -> None:
        self._looker = Looker(watch, EVERY_S, self._on_look)
        self._looker.pause()
        self._about = about
        self._loop = asyncio.get_running_loop()
        self._history = History()
        self._fleet: Fleet | None = None
        self._latest = b""
        self._changed = asyncio.Event()
        self._pages = 0

    def start(self) -> None:
        """Begin to look, as soon as somebody watches."""
        self._looker.start()

    async def stop(self) -> None:
        """End it."""
        await asyncio.to_thread(self._looker.stop)

    async def events(self) -> AsyncGenerator[bytes]:
        """The events for one page: `hello` once, then `fleet` again and again.

        A page that is slow misses some; it always gets the newest.
        """
        self._pages += 1
        if self._pages == 1:
            self._looker.resume()
        try:
            hello = {**self._about, "points": self._history.points()}
            yield b"retry: %d\n" % RETRY_MS + event("hello", msgspec.json.encode(hello))
            if self._pages > 1:
                yield self._latest  # A second old at most.
            while True:
                await self._changed.wait()
                yield self._latest
        finally:
            self._pages -= 1
            if self._pages == 0:
                self._looker.pause()

    def has_queue(self, path: str) -> bool:
        """Whether a queue with this path was there at the last look."""
        return self._fleet is not None and any(one.path == path for one in self._fleet.queues)

    def has_pipeline(self, path: str) -> bool:
        """The same for a pipeline."""
        return self._fleet is not None and any(one.path == path for one in self._fleet.pipelines)

    def _on_look(self, fleet: Fleet) -> None:
        """Called in the thread that looks."""
        try:
            self._loop.call_soon_threadsafe(self._take, fleet)
        except RuntimeError:
            pass  # The loop has ended meanwhile.

    def _take(self, fleet: Fleet) -> None:
        self._fleet = fleet
        point = Point.of(fleet)
        self._history.add(point)
        self._latest = event("fleet", msgspec.json.encode({"fleet": fleet, "point": point}))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
