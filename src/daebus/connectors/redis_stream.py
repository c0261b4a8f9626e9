"""Redis Streams as source, by a consumer group, and as sink."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any

from daebus.bus import shared
from daebus.bus.connection import check_url
from daebus.bus.link import Link
from daebus.bus.stream_appends import append
from daebus.bus.stream_group import FIRST_ID, MAX_ENTRIES, StreamEntry, StreamGroup
from daebus.channels import check_name
from daebus.deadline import Deadline
from daebus.errors import BadMessage, SettingsError
from daebus.logs import get_logger
from daebus.messages import decode_payload, encode
from turbo_queue.connectors import Intake, Reader, Record, Refused, Sink, Source, Writer

log = get_logger(__name__)

#: How long to wait for the connection, in seconds.
CONNECT_S = 10.0

#: The largest event that is sent, in bytes: as much as a queue takes by default.
MAX_EVENT_BYTES = 128 * 1024 * 1024

#: The field of an event that has no fields itself.
VALUE = "value"


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
        start: Behind which entry a new group begins: `0` at the first one, `$` at the next one.
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
        link = _linked(self._url, "stream-source")
        try:
            group = StreamGroup(link, self._stream, self._group, _consumer(intake))
            group.create(self._start)
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


class RedisStreamSink(Sink):
    """Appends each event to a stream.

    At least once: what a lost connection left unsaid is appended again. A mapping of texts, bytes
    and numbers becomes the entry's fields; any other event the one field `value`, as JSON, or as it
    is if it is bytes.

    Args:
        stream: The stream's key; made if it is not there.
        url: The server's address, as for services.
        max_length: The server may remove the oldest entries that are more than this; None: none.
        field: Each event goes into this field, as JSON.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> sink = RedisStreamSink("orders", max_length=1_000_000)
        >>> sink.encode({"id": 1}), sink.encode([1, 2])
        ({'id': '1'}, {'value': b'[1,2]'})
    """

    def __init__(
        self,
        stream: str,
        *,
        url: str | None = None,
        max_length: int | None = None,
        field: str | None = None,
    ) -> None:
        self._stream = check_name("stream", stream)
        self._url = None if url is None else check_url(url)
        is_number = isinstance(max_length, int) and not isinstance(max_length, bool)
        if max_length is not None and not (is_number and max_length > 0):
            raise SettingsError(
                f"max_length is {max_length!r}; it must be a whole number of 1 or more"
            )
        self._max_length = max_length
        self._field = field

    def open(self, stopping: threading.Event) -> Writer:  # noqa: ARG002 - it waits for seconds only
        """See `Sink`.

        Raises:
            ServerUnavailable: the server cannot be reached.
        """
        return _StreamWriter(
            _linked(self._url, "stream-sink"), self, self._stream, self._max_length
        )

    def encode(self, value: Any) -> bytes | dict[str, str | bytes]:
        """See `Sink`. What it has given stays as it is.

        Raises:
            BadMessage: it cannot be sent as JSON.
        """
        if self._field is None and (fields := _fields(value)):
            return fields
        data = value if isinstance(value, bytes) else encode(value, MAX_EVENT_BYTES)
        return data if self._field else {VALUE: data}

    def to_entry(self, value: Any) -> dict[str, str | bytes]:
        """The fields of an entry, from a value that was encoded or was not.

        Raises:
            BadMessage: it cannot be sent as JSON.
        """
        encoded = self.encode(value)
        return encoded if isinstance(encoded, dict) else {self._field or VALUE: encoded}


def _fields(value: Any) -> dict[str, str | bytes] | None:
    """The fields that a value has, if it has fields that a stream can hold."""
    if not isinstance(value, Mapping):
        return None
    fields: dict[str, str | bytes] = {}
    for name, part in value.items():
        if not isinstance(name, str) or isinstance(part, bool):
            return None
        if isinstance(part, int | float):
            fields[name] = encode(part, MAX_EVENT_BYTES).decode()
        elif isinstance(part, str | bytes):
            fields[name] = part
        else:
            return None
    return fields


def _linked(url: str | None, role: str) -> Link:
    """A link of one's own, that is up."""
    link = Link(shared.resolve_url(url), shared.connection_name(role))
    link.start()
    try:
        link.ensure_up(Deadline.after(CONNECT_S))
    except BaseException:
        link.close()
        raise
    return link


def _consumer(intake: Intake) -> str:
    """This reader's name in the group: the one of the last time, so that it finds what it had."""
    match intake.load():
        case {"consumer": str(name)}:
            return name
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    intake.save({"consumer": name})
    return name


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


class _StreamWriter(Writer):
    """Appends with one round trip for each `write`."""

    def __init__(
        self, link: Link, sink: RedisStreamSink, stream: str, max_length: int | None
    ) -> None:
        self._link = link
        self._sink = sink
        self._stream = stream
        self._max_length = max_length
        self._refused: list[Refused] = []

    def write(self, records: list[Record]) -> None:
        """See `Writer`.

        Raises:
            ServerUnavailable: the server refused an entry, or the connection was lost.
            CallTimeout: it did not answer in time.
        """
        entries = []
        for record in records:
            try:
                entries.append(self._sink.to_entry(record.value))
            except BadMessage as error:
                self._refused.append(Refused(record, str(error)))
        append(self._link, self._stream, entries, max_length=self._max_length)

    def flush(self) -> list[Refused]:
        """See `Writer`. The server has all that was written."""
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """See `Writer`."""
        self._link.close()
