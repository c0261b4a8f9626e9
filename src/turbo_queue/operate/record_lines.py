"""Records as JSON objects, and back. Pure.

What is empty is left out. Bytes that are text are written as {"$utf8": "<text>"}, so that people
can read them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turbo_queue.records import Header, Record

_UTF8 = "$utf8"


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    value: Any
    key: Any = None
    headers: tuple[Header, ...] = ()
    timestamp_ms: int | None = None
    origin: str = ""


def to_object(record: Record) -> dict[str, Any]:
    """A record as an object; bytes that are no text stay bytes.

    Example:
        >>> to_object(Record(b"tea", key="42"))
        {'value': {'$utf8': 'tea'}, 'key': '42'}
    """
    headers = [[name, _written(value)] for name, value in record.headers]
    fields: dict[str, Any] = {
        "value": _written(record.value),
        "key": _written(record.key),
        "headers": headers or None,
        "timestamp_ms": record.timestamp_ms,
        "origin": record.origin or None,
    }
    return {name: value for name, value in fields.items() if value is not None or name == "value"}


def from_object(written: Any) -> Record:
    """The record of an object.

    Raises:
        ValueError: it is not what `to_object` gives; the text says why.

    Example:
        >>> from_object({"value": {"$utf8": "tea"}, "key": "42"})
        Record(value=b'tea', key='42', headers=(), timestamp_ms=None, origin='')
    """
    fields = msgspec.convert(written, _Written)
    return Record(
        _read(fields.value),
        _bytes_or_text("key", fields.key),
        tuple((name, _bytes_or_text(name, value)) for name, value in fields.headers),
        fields.timestamp_ms,
        fields.origin,
    )


def _written(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return {_UTF8: value.decode()}
        except UnicodeDecodeError:
            pass
    return value


def _read(written: Any) -> Any:
    if isinstance(written, dict) and len(written) == 1:
        text = written.get(_UTF8)
        return text.encode() if isinstance(text, str) else written
    return written


def _bytes_or_text(what: str, written: Any) -> bytes | str | None:
    value = _read(written)
    if value is None or isinstance(value, bytes | str):
        return value
    raise ValueError(f"{what!r} is {type(value).__name__}; it must be bytes, text or null")
