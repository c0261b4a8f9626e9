"""Channels as source and sink: what is broadcast, at most once to whoever listens."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from daebus.bus import shared
from daebus.bus.arrivals import Arrivals
from daebus.bus.broadcast import Broadcast
from daebus.bus.connection import check_url
from daebus.bus.link import Link
from daebus.channels import check_name, is_pattern
from daebus.deadline import Deadline
from daebus.errors import BadMessage
from daebus.logs import get_logger
from daebus.messages import MAX_MESSAGE_BYTES, check_limits, decode_payload, encode
from turbo_queue.connectors import Intake, Reader, Record, Refused, Sink, Source, Writer

log = get_logger(__name__)

#: How long to wait for the connection and the subscription, in seconds.
CONNECT_S = 10.0

#: How many messages may wait to be read; more are dropped, with a log line.
MAX_WAITING = 100_000


class ChannelSource(Source):
    """What is broadcast to a channel while the source is open; it does not end.

    At most once: what is broadcast while nobody listens, or while the connection is away, is
    missed. The connection comes back by itself, and a log line tells how long it was away. Where
    every event counts, use a stream.

    Args:
        channel: The channel's name, or a pattern such as `events.*`.
        url: The server's address, as for services.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> ChannelSource("user_events").decode(b'{"id": 1}')
        {'id': 1}
    """

    def __init__(self, channel: str, *, url: str | None = None) -> None:
        self._channel = check_name("channel", channel)
        self._url = None if url is None else check_url(url)

    def open(self, intake: Intake) -> Reader:  # noqa: ARG002 - nothing could be read again
        """See `Source`.

        Raises:
            ServerUnavailable: the server cannot be reached, or refuses.
            CallTimeout: it did not answer in time.
        """
        link = Link(shared.resolve_url(self._url), shared.connection_name("channel-source"))
        link.consumer = arrivals = Arrivals(MAX_WAITING)
        deadline = Deadline.after(CONNECT_S)
        link.start()
        try:
            link.ensure_up(deadline)
            names = [self._channel]
            if is_pattern(self._channel):
                link.subscribe(deadline, patterns=names)
            else:
                link.subscribe(deadline, names)
        except BaseException:
            link.close()
            raise
        return _ChannelReader(link, arrivals)

    def decode(self, value: Any) -> Any:
        """See `Source`.

        Raises:
            BadMessage: what was broadcast is not JSON.
        """
        return decode_payload(value)


class ChannelSink(Sink):
    """Broadcasts each event to a channel, as JSON; bytes as they are.

    It returns once the server has sent the events to all who listen, and goes no faster than the
    slowest of them reads; for services with a durable listener they are stored. Where nobody
    listens they are gone.

    Args:
        channel: The channel's name.
        url: The server's address, as for services.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> ChannelSink("user_events").encode({"id": 1})
        b'{"id":1}'
    """

    def __init__(self, channel: str, *, url: str | None = None) -> None:
        self._channel = check_name("channel", channel)
        self._url = None if url is None else check_url(url)

    def open(self, stopping: threading.Event) -> Writer:  # noqa: ARG002 - it waits for seconds only
        """See `Sink`."""
        return _ChannelWriter(Broadcast(self._url), self, self._channel)

    def encode(self, value: Any) -> bytes:
        """See `Sink`.

        Raises:
            BadMessage: the event cannot be sent as JSON, or is too large (`TooLarge`).
        """
        if not isinstance(value, bytes):
            return encode(value, MAX_MESSAGE_BYTES)
        check_limits(value, MAX_MESSAGE_BYTES)
        return value


class _ChannelReader(Reader):
    """Gives what has arrived."""

    def __init__(self, link: Link, arrivals: Arrivals) -> None:
        self._link = link
        self._arrivals = arrivals
        self._messages: list[list[bytes]] = []
        self._told = 0

    def read(self, most: int, timeout_s: float) -> list[Record]:
        """See `Reader`."""
        if not self._messages:
            self._messages = self._arrivals.take(timeout_s) or []
            self._tell_dropped()
        messages, self._messages = self._messages[:most], self._messages[most:]
        return [
            Record(data, origin=channel.decode(errors="replace")) for *_, channel, data in messages
        ]

    def close(self) -> None:
        """See `Reader`."""
        self._link.close()

    def _tell_dropped(self) -> None:
        if (dropped := self._arrivals.dropped) > self._told:
            log.error(
                "%d messages were dropped: they come faster than they are worked on",
                dropped - self._told,
                extra={"event": "channel.dropped"},
            )
            self._told = dropped


class _ChannelWriter(Writer):
    """Broadcasts what it is given, and waits until the server has sent it."""

    def __init__(self, broadcast: Broadcast, sink: ChannelSink, channel: str) -> None:
        self._broadcast = broadcast
        self._sink = sink
        self._channel = channel
        self._refused: list[Refused] = []

    def write(self, records: list[Record]) -> None:
        """See `Writer`.

        Raises:
            InboxFull: a durable listener's inbox takes nothing more.
            ServerUnavailable: the server cannot be reached; some events may have been sent.
            TimeoutError: the server did not answer in time.
        """
        payloads = []
        for record in records:
            try:
                payloads.append(msgspec.Raw(self._sink.encode(record.value)))
            except BadMessage as error:
                self._refused.append(Refused(record, str(error)))
        self._broadcast.send_many(self._channel, payloads)

    def flush(self) -> list[Refused]:
        """See `Writer`. The server has sent all that was written."""
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """See `Writer`."""
        self._broadcast.close()
