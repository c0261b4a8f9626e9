"""What a request says: its parameters, and its body within a limit."""

from __future__ import annotations

from starlette.requests import Request

from daebus.errors import SettingsError, TooLarge


def parameter(request: Request, name: str) -> str:
    """A parameter of the address.

    Raises:
        SettingsError: it is not there.
    """
    value = request.query_params.get(name)
    if value is None:
        raise SettingsError(f"the parameter {name!r} is missing")
    return value


async def small_body(request: Request, max_bytes: int) -> bytes:
    """The request's body; no more of it is read than may be.

    Raises:
        TooLarge: it is larger.
    """
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > max_bytes:
            raise TooLarge(len(parts), max_bytes)
    return bytes(parts)
