"""Events as lines of JSON, and back. Pure.

JSON has no bytes: they are written as {"$bytes": "<base64>"}. Records are written as objects.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec

from turbo_queue.operate import record_lines
from turbo_queue.records import Record

_BYTES = "$bytes"
_BYTES_KEY = f'"{_BYTES}"'.encode()

# A JSON text may hold these as they are; a terminal takes some of them for commands.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029]")

_decode = msgspec.json.Decoder().decode


class NoJson(Exception):
    """An event that JSON cannot show, or a line that is not JSON; the text says why."""


def to_line(event: Any) -> str:
    """One event as a line, without its end.

    Raises:
        NoJson: JSON cannot show it.

    Example:
        >>> to_line({"text": "caf\u00e9", "data": b"hi"})
        '{"text":"café","data":{"$bytes":"aGk="}}'
    """
    shown = record_lines.to_object(event) if isinstance(event, Record) else event
    try:
        text = msgspec.json.encode(_without_bytes(shown)).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NoJson(f"an event of type {type(event).__name__} is no JSON: {error}") from error
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def from_line(line: bytes, *, with_bytes: bool) -> Any:
    """The event of a line.

    Args:
        line: With or without its end.
        with_bytes: Make bytes of what stands for bytes.

    Raises:
        NoJson: it is not JSON.

    Example:
        >>> from_line(b'{"$bytes": "aGk="}', with_bytes=True)
        b'hi'
    """
    try:
        event = _decode(line)
        return _with_bytes(event) if with_bytes and _BYTES_KEY in line else event
    except (ValueError, RecursionError) as error:
        raise NoJson(f"not JSON: {error}") from error


def record_from_line(line: bytes) -> Record:
    """The record of a line that `to_line` has made of one.

    Raises:
        NoJson: it is not JSON, or no record.

    Example:
        >>> record_from_line(b'{"value": {"$bytes": "aGk="}, "headers": [["kind", "order"]]}')
        Record(value=b'hi', key=None, headers=(('kind', 'order'),), timestamp_ms=None, origin='')
    """
    written = from_line(line, with_bytes=True)
    try:
        return record_lines.from_object(written)
    except ValueError as error:
        raise NoJson(f"not a record: {error}") from error


def _without_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_bytes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_bytes(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {_BYTES: base64.b64encode(value).decode()}
    return value


def _with_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(text := value.get(_BYTES), str):
        return base64.b64decode(text, validate=True)
    return {key: _with_bytes(item) for key, item in value.items()}
