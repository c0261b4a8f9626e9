"""JSON as a page shows it: text, so that no figure loses digits in the browser. Pure."""

from __future__ import annotations

import msgspec

#: The longest text that is shown, in bytes of what came, and in characters of what that becomes.
MOST_SHOWN = 100_000


def readable(data: bytes) -> str:
    r"""JSON over several lines; what is no JSON, or too long, as it stands there, and cut.

    Deep JSON over several lines may be a thousand times as long.

    Example:
        >>> readable(b'{"id":12345678901234567890}')
        '{\n  "id": 12345678901234567890\n}'
        >>> readable(b"\xffno")
        '\\xffno'
    """
    if len(data) > MOST_SHOWN:
        shown = data[:MOST_SHOWN].decode(errors="backslashreplace")
        return f"{shown}… ({len(data):,} bytes)"
    try:
        text = msgspec.json.format(data, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = data.decode(errors="backslashreplace")
    if len(text) > MOST_SHOWN:
        return f"{text[:MOST_SHOWN]}… ({len(text):,} characters)"
    return text
