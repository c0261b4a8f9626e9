"""Redis Streams as sink."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from daebus.bus.connection import check_url
from daebus.bus.link import Link
from daebus.bus.stream_appends import append
from daebus.channels import check_name
from daebus.connectors.own_link import own_link
from daebus.errors import BadMessage, SettingsError
from daebus.messages import encode
from turbo_queue.connectors import Record, Refused, Sink, Writer

#: The largest event that is sent, in bytes: as much as a queue takes by default.
MAX_EVENT_BYTES = 128 * 1024 * 1024

#: The field of an event that has no fields itself.
VALUE = "value"


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
            own_link(self._url, "stream-sink"), self, self._stream, self._max_length
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
