"""Redis Streams as source, by a consumer group."""

from __future__ import annotations

import secrets
import socket
from time import monotonic
from typing import Any

from daebus.bus.connection import check_url
from daebus.bus.link import Link
from daebus.bus.stream_group import FIRST_ID, MAX_ENTRIES, StreamEntry, StreamGroup
from daebus.channels import check_name
from daebus.connectors.own_link import own_link
from daebus.errors import BadMessage, SettingsError
from daebus.logs import get_logger
from daebus.messages import decode_payload
from turbo_queue.connectors import Intake, Reader, Record, Source

log = get_logger(__name__)

#: Where a group begins with the stream's first entry.
FROM_FIRST = "0"


class RedisStreamSource(Source):
    """The entries of a stream, each read by one reader of a group; it does not end.

    At least once: an entry is acknowledged when it is safe on this side's disk. What a reader had
    taken and not acknowledged, it reads again first after a restart; another one takes it over
    after `take_over` seconds.

    An event is a dict of the entry's fields: text where they are UTF-8, else bytes. Of two fields
    with one name the last one counts.

    Args:
        stream: The stream's key.
        group: The group's name; made if it is not there.
        url: The server's address, as for services.
        start: Behind which entry a new group begins: `0` at the first one, `$` at the next one. A
            group that was there and is gone, with its stream or without, begins at the first one.
        field: The event is this field, as JSON; None: it is the whole entry.
        take_over: Seconds after which entries are taken over from a reader that did not
            acknowledge them.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> source = RedisStreamSource("orders", group="billing")
        >>> source.decode({"id": "1"})
        {'id': '1'}
    """

    def __init__(
        self,
        stream: str,
        *,
        group: str,
        url: str | None = None,
        start: str = "0",
        field: str | None = None,
        take_over: float = 60.0,
    ) -> None:
        self._stream = check_name("stream", stream)
        self._group = check_name("group", group)
        self._url = None if url is None else check_url(url)
        self._start = start
        self._field = field
        if isinstance(take_over, bool) or not isinstance(take_over, int | float) or take_over <= 0:
            raise SettingsError(
                f"take_over is {take_over!r}; it must be a number of seconds above 0"
            )
        self._idle_ms = max(1, int(take_over * 1000))

    def open(self, intake: Intake) -> Reader:
        """See `Source`.

        Raises:
            ServerUnavailable: the server cannot be reached, or refuses.
        """
        link = own_link(self._url, "stream-source")
        try:
            # A group that has gone since the last time took with it what it had not read: the
            # stream was removed, or the server has lost it. So all that is there now is new.
            before = _consumer_before(intake)
            consumer = before or f"{socket.gethostname()}-{secrets.token_hex(4)}"
            group = StreamGroup(link, self._stream, self._group, consumer)
            group.create(FROM_FIRST if before else self._start)
            if not before:
                intake.save({"consumer": consumer})
        except BaseException:
            link.close()
            raise
        return _StreamReader(link, group, self._stream, self._idle_ms)

    def decode(self, value: Any) -> Any:
        """See `Source`.

        Raises:
            BadMessage: the field is not there, or is not JSON.
        """
        if self._field is None:
            return value
        if self._field not in value:
            raise BadMessage(f"the entry has no field {self._field!r}; it has {', '.join(value)}")
        data = value[self._field]
        return decode_payload(data.encode() if isinstance(data, str) else data)


def _consumer_before(intake: Intake) -> str | None:
    """This reader's name in the group the last time, by which it finds what it had."""
    match intake.load():
        case {"consumer": str(name)}:
            return name
    return None


class _StreamReader(Reader):
    """Reads what this consumer had first, then what others left, then what is new."""

    def __init__(self, link: Link, group: StreamGroup, stream: str, idle_ms: int) -> None:
        self._link = link
        self._group = group
        self._stream = stream
        self._idle_ms = idle_ms
        #: Behind which id to go on with what this consumer had; None: all of it was read.
        self._own: bytes | None = FIRST_ID
        #: Where to go on with what others left; None: all was looked at.
        self._left: bytes | None = None
        self._look_at = 0.0
        #: Given, and not acknowledged yet.
        self._given: dict[bytes, None] = {}

    def read(self, most: int, timeout_s: float) -> list[Record]:
        """See `Reader`.

        Raises:
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        count = min(most, MAX_ENTRIES)
        entries = self._read_own(count) or self._take_over(count)
        return self._records(entries or self._group.read_new(count, timeout_s))

    def commit(self) -> None:
        """See `Reader`.

        Raises:
            ServerUnavailable: the server refused, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        if self._given:
            self._group.acknowledge(list(self._given))
            self._given.clear()

    def close(self) -> None:
        """See `Reader`."""
        self._link.close()

    def _read_own(self, count: int) -> list[StreamEntry]:
        if self._own is None:
            return []
        entries = self._group.read_own(count, self._own)
        self._own = entries[-1].id if entries else None
        return entries

    def _take_over(self, count: int) -> list[StreamEntry]:
        now = monotonic()
        if self._left is None and now >= self._look_at:
            self._look_at = now + self._idle_ms / 2000
            self._left = FIRST_ID
        if self._left is None:
            return []
        entries, self._left = self._group.take_over(count, self._idle_ms, self._left)
        # What this reader holds for so long itself is in good hands.
        return [entry for entry in entries if entry.id not in self._given]

    def _records(self, entries: list[StreamEntry]) -> list[Record]:
        records = []
        removed = []
        for entry in entries:
            if entry.fields is None:
                removed.append(entry.id)
                continue
            self._given[entry.id] = None
            origin = f"{self._stream}@{entry.id.decode()}"
            records.append(
                Record(_value(entry.fields), timestamp_ms=entry.stored_ms, origin=origin)
            )
        if removed:
            self._group.acknowledge(removed)
            log.error(
                "%d entries were removed from the stream %r before they were safe here",
                len(removed),
                self._stream,
                extra={"event": "stream.removed"},
            )
        return records


def _value(fields: list[bytes]) -> dict[str | bytes, str | bytes]:
    parts = list(map(_text, fields))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
