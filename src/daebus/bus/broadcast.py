"""Broadcast: publish to any channel, one message or very many. No reply comes back."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable
from itertools import islice
from time import monotonic
from typing import Any

import hiredis

from daebus.bus import shared
from daebus.bus.commands import Command, Receivers, ServerReply, publish
from daebus.bus.durable_listeners import DurableListeners
from daebus.bus.link import Link
from daebus.bus.stream import Stored
from daebus.channels import check_name
from daebus.deadline import Deadline
from daebus.errors import DaebusError, ServerUnavailable
from daebus.logs import get_logger
from daebus.messages import MAX_MESSAGE_BYTES, encode

log = get_logger(__name__)

#: Messages of one chunk of `send_many`, and chunks that may be under way at once. Enough to keep
#: the server busy, few enough that a slow server holds the sender back at once.
CHUNK_MESSAGES = 500
CHUNKS_UNDER_WAY = 4

#: Published bytes between two looks at the subscribers, and what the slowest of them may have
#: waiting in the server's output buffer. The usual limits cut it off at 8 MiB for a minute, or at
#: 32 MiB (Redis: client-output-buffer-limit pubsub).
LOOK_AFTER_BYTES = 512 * 1024
MAX_LAG_BYTES = 4 * 1024 * 1024

#: A subscriber that reads nothing for so long is not waited for, in seconds.
STALLED_AFTER_S = 5.0

#: Longest wait for the server's answer to a publish, in seconds.
TIMEOUT_S = 10.0


class Broadcast:
    """Publishes JSON to channels.

    `daebus.broadcast` is the one that most programs use. Inside a service it publishes to the
    service's own server; elsewhere to `url`, else `DAEBUS_URL`, else the default address.

    Args:
        url: the server's address.
        max_message_bytes: the largest message that is sent, in bytes.

    Example:
        >>> broadcast.send("user_events", {"type": "registered", "id": 1})
        0
    """

    def __init__(
        self, url: str | None = None, *, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._url = url
        self._max_bytes = max_message_bytes
        self._lock = threading.Lock()
        #: By the server's address; each has its link.
        self._servers: dict[str, DurableListeners] = {}

    def send(self, channel: str, payload: Any, *, timeout: float = TIMEOUT_S) -> int:
        """Publish one message and wait for the number of its receivers.

        For each service with a durable listener to the channel it is stored, too.

        Args:
            channel: the channel's name.
            payload: any JSON value.
            timeout: the longest wait for the server's answer, in seconds.

        Returns:
            How many subscribers the server sent it to, and services it was stored for.

        Raises:
            BadMessage: the payload cannot be sent as JSON, or is too large (`TooLarge`).
            InboxFull: it was published, but a durable listener's inbox takes nothing more.
            ServerUnavailable: the server cannot be reached.
            TimeoutError: the server did not answer in time.
        """
        data = encode(payload, self._max_bytes)
        deadline = Deadline.after(timeout)
        durable = self._server(deadline)
        receivers = Receivers(publish(_channel(channel), data))
        asked = durable.ask(channel)
        durable.link.send(receivers)
        listeners = durable.of(channel, asked, deadline)
        stored = durable.store(listeners, channel, [data]) if listeners else []
        count = receivers.wait(deadline.remaining_s())
        for copy in stored:
            copy.wait(deadline)
        return count + len(stored)

    def send_many(
        self, channel: str, payloads: Iterable[Any], *, timeout: float = TIMEOUT_S
    ) -> int:
        """Publish many messages, in order, without waiting for each.

        It paces itself by the slowest subscriber: while the server holds more than a few MiB for
        one, it waits (unless that one reads nothing at all), so that a flood does not make the
        server cut anybody off. That needs the right to CLIENT LIST; without it there is no pacing.

        Args:
            channel: the channel's name.
            payloads: any JSON values; taken as they are sent.
            timeout: the longest wait for any single answer of the server, in seconds.

        Returns:
            The receivers of all messages, added up.

        Raises:
            BadMessage: a payload cannot be sent as JSON, or is too large; those before it are sent.
            InboxFull: a durable listener's inbox takes nothing more; the messages before were sent.
            ServerUnavailable: the server cannot be reached; some messages may have been sent.
            TimeoutError: the server did not answer in time.

        Example:
            >>> broadcast.send_many("numbers", range(10_000))
            0
        """
        durable = self._server(Deadline.after(timeout))
        link = durable.link
        name = _channel(channel)
        pace = _Pace(link, timeout)
        under_way: deque[_Chunk] = deque()
        receivers = 0
        source = iter(payloads)
        failure: DaebusError | None = None
        while failure is None:
            messages: list[bytes] = []
            try:
                messages.extend(
                    encode(payload, self._max_bytes) for payload in islice(source, CHUNK_MESSAGES)
                )
            except DaebusError as error:
                failure = error
            if not messages:
                break
            listeners = durable.of(channel, durable.ask(channel), Deadline.after(timeout))
            chunk = _Chunk([publish(name, data) for data in messages])
            link.send_all(chunk.commands())
            if listeners:
                chunk.stored = durable.store(listeners, channel, messages)
            under_way.append(chunk)
            if len(under_way) >= CHUNKS_UNDER_WAY:
                receivers += under_way.popleft().wait(timeout)
            pace.keep(len(chunk.data))
        for chunk in under_way:
            receivers += chunk.wait(timeout)
        if failure is not None:
            raise failure
        return receivers

    def close(self) -> None:
        """Give the connection back. May be called again; the next send connects again."""
        with self._lock:
            servers, self._servers = self._servers, {}
        for server in servers.values():
            shared.give_back(server.link)

    def _server(self, deadline: Deadline) -> DurableListeners:
        url = shared.resolve_url(self._url)
        server = self._servers.get(url)
        if server is None or server.link.is_closed:
            with self._lock:
                server = self._servers.get(url)
                if server is None or server.link.is_closed:
                    server = self._servers[url] = DurableListeners(shared.borrow(url))
        if server.link.is_reader():
            raise ServerUnavailable(
                server.link.address,
                "a callback of a reply cannot wait for the server; use a thread",
            )
        server.link.ensure_up(deadline)
        return server


def _channel(name: str) -> bytes:
    return check_name("channel", name).encode()


class _Chunk(Receivers):
    """Many PUBLISH commands that leave together; counts their receivers."""

    __slots__ = ("_left", "_sum", "stored")

    def __init__(self, published: list[bytes]) -> None:
        super().__init__(b"".join(published))
        self._left = len(published)
        self._sum = 0
        #: The copies for durable listeners.
        self.stored: list[Stored] = []

    def commands(self) -> list[Command]:
        """One command without bytes for each reply but the last, and one with all the bytes.

        In this order: the writer may part them, and a reply must not come before its command; and
        while any reply is missing the last one is, so the chunk learns that a connection was lost.
        """
        return [*([_Other(self)] * (self._left - 1)), self]

    def wait(self, timeout_s: float = Receivers.WAIT_S) -> int:
        """Wait for the number, and until the copies are stored."""
        deadline = Deadline.after(timeout_s)
        count = super().wait(timeout_s)
        for copy in self.stored:
            copy.wait(deadline)
        return count + len(self.stored)

    def resolve(self, reply: ServerReply) -> None:
        """Take the reply to one of them."""
        if not isinstance(reply, int):
            super().resolve(reply)
            return
        self._sum += reply
        self._left -= 1
        if self._left == 0:
            super().resolve(self._sum)


class _Other(Command):
    """Stands for a reply to come, of a command whose bytes another one carries."""

    __slots__ = ("_chunk",)

    def __init__(self, chunk: _Chunk) -> None:
        super().__init__(b"")
        self._chunk = chunk

    def resolve(self, reply: ServerReply) -> None:
        self._chunk.resolve(reply)


class _Pace:
    """Waits while the slowest subscriber is far behind, as the server's CLIENT LIST tells."""

    def __init__(self, link: Link, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._unseen_bytes = 0
        self._is_possible = True
        self._stalled: set[bytes] = set()

    def keep(self, published_bytes: int) -> None:
        """Count what was published, and wait if it is time to look and somebody is behind."""
        self._unseen_bytes += published_bytes
        if self._unseen_bytes < LOOK_AFTER_BYTES or not self._is_possible:
            return
        self._unseen_bytes = 0
        progress_at, lowest = monotonic(), None
        pause = threading.Event()
        while (behind := self._behind()) and max(behind.values()) > MAX_LAG_BYTES:
            total = sum(behind.values())
            if lowest is None or total < lowest:
                progress_at, lowest = monotonic(), total
            elif monotonic() - progress_at > STALLED_AFTER_S:
                stalled = {client for client, lag in behind.items() if lag > MAX_LAG_BYTES}
                log.warning(
                    "%d subscribers read nothing; going on without waiting for them",
                    len(stalled),
                    extra={"event": "broadcast.stalled"},
                )
                self._stalled |= stalled
            pause.wait(0.002)

    def _behind(self) -> dict[bytes, int]:
        """Bytes that wait in the server for each subscriber, by client id."""
        reply = self._link.ask(
            Deadline.after(self._timeout_s), b"CLIENT", b"LIST", b"TYPE", b"pubsub"
        )
        if isinstance(reply, hiredis.ReplyError) or reply is None:
            self._is_possible = False
            log.info("send_many goes on unpaced: %s", reply, extra={"event": "broadcast.unpaced"})
            return {}
        text = reply if isinstance(reply, bytes) else str(reply).encode()
        lags = {client: int(lag) for client, lag in _LAG.findall(text)}
        return {client: lag for client, lag in lags.items() if client not in self._stalled}


_LAG = re.compile(rb"^(?:txt:)?id=(\d+) .*? omem=(\d+) ", re.MULTILINE)

#: Publishes to the server of the running service, else to `DAEBUS_URL`, else to the default.
broadcast = Broadcast()
