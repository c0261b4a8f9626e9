"""What is published to channels, for any number of listeners of one event loop.

The process subscribes once to a channel, however many listen to it. Each listener has a bounded
buffer of its own: one that reads too slowly is ended, and holds up nobody.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Self

from daebus.bus import shared
from daebus.bus.link import Link
from daebus.channels import check_name, is_internal, is_pattern
from daebus.deadline import Deadline
from daebus.errors import ConnectionLost, DaebusError
from daebus.logs import Incidents, get_logger

log = get_logger(__name__)

#: Messages that may wait for one listener, in number and in bytes.
MAX_MESSAGES = 1_000
MAX_BYTES = 4 * 1024 * 1024

#: How long the server may take to confirm a subscription, in seconds.
SUBSCRIBE_S = 10.0


class TooSlow(Exception):
    """A listener does not read what is published as fast as it comes."""


class Listener:
    """An iterator over what is published: (channel, payload as bytes).

    To cancel the wait for a message loses nothing. `close` it when done.

    Args:
        fan_out: where it comes from.
        names: channels and patterns.
    """

    def __init__(self, fan_out: FanOut, names: tuple[str, ...]) -> None:
        self.names = names
        self._fan_out = fan_out
        self._messages: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._is_too_slow = False

    def give(self, channel: str, data: bytes) -> None:
        """Let a message wait for who reads it."""
        if self._is_too_slow:
            return
        self._messages.append((channel, data))
        self._bytes += len(data)
        if len(self._messages) > MAX_MESSAGES or self._bytes > MAX_BYTES:
            self._is_too_slow = True
            self._messages.clear()
            self._fan_out.incidents.report(
                "slow_listener", f"a listener to {self.names} reads too slowly, and is ended"
            )
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        """The next message.

        Raises:
            TooSlow: so many wait that the rest was dropped.
        """
        while not self._messages:
            if self._is_too_slow:
                raise TooSlow
            self._changed.clear()
            await self._changed.wait()
        channel, data = self._messages.popleft()
        self._bytes -= len(data)
        return channel, data

    async def close(self) -> None:
        """Listen no more."""
        await self._fan_out.leave(self)


class FanOut:
    """The subscriptions of a process, over a connection of their own.

    Args:
        url: the server's address.
    """

    def __init__(self, url: str) -> None:
        self.incidents = Incidents(log)
        self._loop = asyncio.get_running_loop()
        self._link = Link(url, shared.connection_name("listen"))
        self._link.consumer = _Arrivals(self)
        self._is_started = False
        self._changing = asyncio.Lock()
        self._listeners: defaultdict[str, list[Listener]] = defaultdict(list)

    async def listen(self, names: Iterable[str]) -> Listener:
        """A new listener; what is published from now on comes to it.

        Args:
            names: channels, and patterns such as `events.*`.

        Raises:
            SettingsError: a name is none.
            ServerUnavailable: the server cannot be reached, or refuses the subscription.
            CallTimeout: it did not confirm in time.
        """
        listener = Listener(self, tuple(dict.fromkeys(check_name("channel", n) for n in names)))
        async with self._changing:
            new = [name for name in listener.names if not self._listeners.get(name)]
            for name in listener.names:
                self._listeners[name].append(listener)
            try:
                if new:
                    await asyncio.to_thread(self._subscribe, new)
            except BaseException:
                self._remove(listener)
                raise
        return listener

    async def leave(self, listener: Listener) -> None:
        """A listener listens no more."""
        async with self._changing:
            self._remove(listener)

    async def close(self) -> None:
        """Close the connection."""
        await asyncio.to_thread(self._link.close)

    def spread(self, messages: list[list[bytes]]) -> None:
        """Give messages to those who listen, in the loop's thread."""
        for kind, *rest, data in messages:
            name = rest[0].decode(errors="replace")
            channel = rest[-1].decode(errors="replace") if kind == b"pmessage" else name
            if is_internal(channel):
                continue  # A pattern such as `*` reaches them, too.
            for listener in self._listeners.get(name, ()):
                listener.give(channel, data)

    def arrive(self, messages: list[list[bytes]]) -> None:
        """Messages have come. Called from the link's reader thread."""
        try:
            self._loop.call_soon_threadsafe(self.spread, messages)
        except RuntimeError:
            pass  # The loop was closed: nobody listens any more.

    def _subscribe(self, names: list[str]) -> None:
        deadline = Deadline.after(SUBSCRIBE_S)
        if not self._is_started:
            self._is_started = True
            self._link.start()
        self._link.ensure_up(deadline)
        self._link.subscribe(deadline, *_parted(names))

    def _remove(self, listener: Listener) -> None:
        gone = []
        for name in listener.names:
            others = self._listeners[name]
            if listener in others:
                others.remove(listener)
            if not others:
                del self._listeners[name]
                gone.append(name)
        try:
            if gone:
                self._link.unsubscribe(*_parted(gone))
        except DaebusError:
            pass  # The server takes nothing; with the next connection the link has them no more.


class _Arrivals:
    """The consumer of the link: see `Consumer` for who calls what."""

    #: The next message may come at any time.
    is_expecting = True

    def __init__(self, fan_out: FanOut) -> None:
        self._fan_out = fan_out

    def on_messages(self, messages: list[list[bytes]]) -> bool:
        """See `Consumer`."""
        self._fan_out.arrive(messages)
        return False

    def on_lost(self, error: ConnectionLost) -> None:
        """The link logs it."""

    def on_back(self, gap_s: float, reason: str) -> None:
        """The link logs it."""


def _parted(names: list[str]) -> tuple[list[str], list[str]]:
    """Channels, and patterns."""
    return [n for n in names if not is_pattern(n)], [n for n in names if is_pattern(n)]
