"""How values look outside: bytes as they are, text, or JSON. Worked out in the worker processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from turbo_queue.errors import BadEvent, SettingsError

Format = Literal["bytes", "text", "json"]

FORMATS: tuple[Format, ...] = ("bytes", "text", "json")


def decoder(name: Format) -> Callable[[Any], Any]:
    """The function from bytes to what the work is given; what is None stays None.

    Raises:
        SettingsError: there is no such format.

    Example:
        >>> decoder("json")(b'{"id": 1}')
        {'id': 1}
    """
    return _found(_DECODERS, name)


def encoder(name: Format) -> Callable[[Any], Any]:
    """The function from a result to bytes; what is None stays None.

    Raises:
        SettingsError: there is no such format.

    Example:
        >>> encoder("json")({"id": 1})
        b'{"id":1}'
    """
    return _found(_ENCODERS, name)


def _found(functions: dict[str, Callable[[Any], Any]], name: str) -> Callable[[Any], Any]:
    try:
        return functions[name]
    except KeyError:
        raise SettingsError(
            f"there is no format {name!r}; there are {', '.join(FORMATS)}"
        ) from None


def _as_it_is(value: Any) -> Any:
    return value


def _to_text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


_decode_json = msgspec.json.Decoder().decode
_encode_json = msgspec.json.Encoder().encode


def _from_json(value: bytes | None) -> Any:
    return None if value is None else _decode_json(value)


def _to_json(value: Any) -> bytes | None:
    return None if value is None else _encode_json(value)


def _to_bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise BadEvent(
        f"the sink takes bytes and str, and the work gave {type(value).__name__}; "
        f"give the sink format='json', or return bytes"
    )


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "bytes": _as_it_is,
    "text": _to_text,
    "json": _from_json,
}

_ENCODERS: dict[str, Callable[[Any], Any]] = {
    "bytes": _to_bytes,
    "text": _to_bytes,
    "json": _to_json,
}
