"""Events to bytes and back, and how several of them share a row of a batch file. Pure.

One call into a C codec for a hundred events costs less than a hundred calls, and one row of SQLite
less than a hundred rows. So a row holds up to `EVENTS_PER_ROW` events, in a form that a plain
SELECT shows: text is one event a line.
"""

from __future__ import annotations

import pickle  # Only for queues that ask for it by name.
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import msgspec

from turbo_queue.errors import BatchDamaged, SettingsError
from turbo_queue.records import Record

#: As many as a consumer's checkpoints are apart by default, so that each row ends at one.
EVENTS_PER_ROW = 100


class Row(NamedTuple):
    """Some events of a batch, as its file keeps them."""

    number: int
    body: bytes
    is_text: bool


class Codec(Protocol):
    """How the events of a queue become bytes."""

    name: str

    #: Types that the encoder would take, and give back as something else.
    refused: frozenset[type]

    def encode(self, event: Any) -> bytes:
        """One event as bytes; raises whatever the encoder raises."""

    def rows(self, encoded: list[bytes]) -> list[Row]:
        """The rows that hold these events, of which there are `EVENTS_PER_ROW` at most."""

    def rows_of(self, events: list[Any]) -> list[Row]:
        """The same for events that are not encoded yet; raises for those that it refuses, too."""

    def events(self, row: Row) -> list[Any]:
        """The events of a row; raises whatever the decoder raises."""


class JsonCodec:
    """Any JSON value: a row of text, one event a line."""

    name = "json"
    # msgspec would make base64 text of these.
    refused: frozenset[type] = frozenset({bytes, bytearray, memoryview})

    def __init__(self) -> None:
        encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder()
        self.encode, self._encode_lines = encoder.encode, encoder.encode_lines
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines

    def rows(self, encoded: list[bytes]) -> list[Row]:
        return [Row(len(encoded), b"\n".join(encoded), is_text=True)]

    def rows_of(self, events: list[Any]) -> list[Row]:
        if not self.refused.isdisjoint(map(type, events)):
            raise TypeError("JSON has no bytes")
        return [Row(len(events), self._encode_lines(events)[:-1], is_text=True)]

    def events(self, row: Row) -> list[Any]:
        return [self._decode(row.body)] if row.number == 1 else self._decode_lines(row.body)


class MsgpackCodec:
    """Any MessagePack value, bytes included: a row is one MessagePack array."""

    name = "msgpack"
    refused: frozenset[type] = frozenset()

    def __init__(self) -> None:
        self.encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Any]).decode

    def rows(self, encoded: list[bytes]) -> list[Row]:
        return [Row(len(encoded), _array(encoded), is_text=False)]

    def rows_of(self, events: list[Any]) -> list[Row]:
        return [Row(len(events), self.encode(events), is_text=False)]

    def events(self, row: Row) -> list[Any]:
        return self._decode(row.body)


def _array(encoded: list[bytes]) -> bytes:
    """A MessagePack array (its specification, "array format": 16 bits of length)."""
    return b"\xdc" + len(encoded).to_bytes(2, "big") + b"".join(encoded)


class _Text(bytes):
    """The UTF-8 bytes of an event that was a str."""

    __slots__ = ()


class RawCodec:
    """bytes and str as they are: a row is one event a line, or one event that has lines itself."""

    name = "raw"
    refused: frozenset[type] = frozenset()

    def encode(self, event: Any) -> bytes:
        if isinstance(event, str):
            return _Text(event.encode())
        if isinstance(event, bytes):
            return event
        if isinstance(event, bytearray | memoryview):
            return bytes(event)
        raise TypeError(f"the codec 'raw' carries bytes and str, not {type(event).__name__}")

    def rows(self, encoded: list[bytes]) -> list[Row]:
        rows: list[Row] = []
        for is_text, group in groupby(encoded, lambda event: type(event) is _Text):
            together = list(group)
            body = b"\n".join(together)
            if body.count(b"\n") == len(together) - 1:
                rows.append(Row(len(together), body, is_text))
            else:
                rows += (Row(1, bytes(event), is_text) for event in together)
        return rows

    def rows_of(self, events: list[Any]) -> list[Row]:
        if set(map(type, events)) == {bytes}:
            body = b"\n".join(events)
            if body.count(b"\n") == len(events) - 1:
                return [Row(len(events), body, is_text=False)]
        return self.rows(list(map(self.encode, events)))

    def events(self, row: Row) -> list[Any]:
        if row.is_text:
            text = row.body.decode()
            return [text] if row.number == 1 else text.split("\n")
        return [row.body] if row.number == 1 else row.body.split(b"\n")


class RecordCodec:
    """`Record`s: a row is one MessagePack array of them, each an array of its fields."""

    name = "record"
    refused: frozenset[type] = frozenset()

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(list[Record]).decode

    def encode(self, event: Any) -> bytes:
        if not isinstance(event, Record):
            raise TypeError(f"the codec 'record' carries Records, not {type(event).__name__}")
        _check_fields(event)
        return self._encode(event)

    def rows(self, encoded: list[bytes]) -> list[Row]:
        return [Row(len(encoded), _array(encoded), is_text=False)]

    def rows_of(self, events: list[Any]) -> list[Row]:
        if set(map(type, events)) != {Record}:
            raise TypeError("not all of them are Records")
        if not all(map(_is_readable, events)):
            raise TypeError("not all of them could be read again")
        return [Row(len(events), self._encode(events), is_text=False)]

    def events(self, row: Row) -> list[Any]:
        return self._decode(row.body)


def _is_readable(record: Record) -> bool:
    """Whether the fields have their types: the encoder takes any, the decoder refuses the row."""
    timestamp_ms = record.timestamp_ms
    return (
        (timestamp_ms is None or type(timestamp_ms) is int)
        and type(record.origin) is str
        and (record.headers == () or _are_headers(record.headers))
    )


def _are_headers(headers: object) -> bool:
    return isinstance(headers, tuple | list) and all(
        isinstance(header, tuple | list) and len(header) == 2 and isinstance(header[0], str)  # noqa: PLR2004
        for header in headers
    )


def _check_fields(record: Record) -> None:
    if not _is_readable(record):
        raise TypeError(
            f"timestamp_ms must be an int or None, headers a tuple of pairs of a name and a value, "
            f"and origin a str; here they are {type(record.timestamp_ms).__name__}, "
            f"{type(record.headers).__name__} and {type(record.origin).__name__}"
        )


class PickleCodec:
    """Any Python object. Whoever may write to the folder can run code in its consumers."""

    name = "pickle"
    refused: frozenset[type] = frozenset()

    def encode(self, event: Any) -> bytes:
        return pickle.dumps(event, protocol=pickle.HIGHEST_PROTOCOL)

    def rows(self, encoded: list[bytes]) -> list[Row]:
        return [Row(1, event, is_text=False) for event in encoded]

    def rows_of(self, events: list[Any]) -> list[Row]:
        return self.rows(list(map(self.encode, events)))

    def events(self, row: Row) -> list[Any]:
        return [pickle.loads(row.body)]


_CODECS: dict[str, Callable[[], Codec]] = {
    "json": JsonCodec,
    "msgpack": MsgpackCodec,
    "raw": RawCodec,
    "record": RecordCodec,
    "pickle": PickleCodec,
}


def codec_named(name: str) -> Codec:
    """The codec of this name.

    Raises:
        SettingsError: there is none.

    Example:
        >>> codec_named("json").encode({"id": 1})
        b'{"id":1}'
    """
    try:
        return _CODECS[name]()
    except KeyError:
        raise SettingsError(f"there is no codec {name!r}; there are {', '.join(_CODECS)}") from None


class Decoder:
    """Reads the rows of batches of any codec; of pickle only if the queue is one of pickles."""

    def __init__(self, codec: Codec) -> None:
        self._codecs = {codec.name: codec}

    def check(self, codec_name: str) -> None:
        """Refuse a codec that cannot be read here.

        Raises:
            BatchDamaged: there is no such codec.
            SettingsError: this queue does not read it.
        """
        if codec_name in self._codecs:
            return
        if codec_name == PickleCodec.name:
            raise SettingsError(
                "a batch holds pickles, which run code when they are read. Open the queue with "
                "codec='pickle' if you trust everybody who may write to its folder."
            )
        if codec_name not in _CODECS:
            raise BatchDamaged(f"there is no codec {codec_name!r}")
        self._codecs[codec_name] = codec_named(codec_name)

    def events(self, codec_name: str, row: Row) -> list[Any]:
        """The events of a row whose codec was checked.

        Raises:
            BatchDamaged: its bytes are not what its codec makes.
        """
        try:
            events = self._codecs[codec_name].events(row)
        except (MemoryError, RecursionError):
            raise  # The reader's own limits say nothing of the batch.
        except Exception as error:
            raise BatchDamaged(f"a row is not {codec_name}: {error}") from error
        if len(events) != row.number:
            raise BatchDamaged(f"a row holds {len(events)} events instead of {row.number}")
        return events
