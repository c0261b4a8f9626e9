"""JSON as a page shows it: text, so that no figure loses digits in the browser. Pure."""

from __future__ import annotations

import msgspec

#: The longest text that is shown, in characters.
MOST_SHOWN = 100_000


def readable(data: bytes) -> str:
    r"""JSON over several lines; what is no JSON as it stands there. Cut where it is too long.

    Example:
        >>> readable(b'{"id":12345678901234567890}')
        '{\n  "id": 12345678901234567890\n}'
        >>> readable(b"\xffno")
        '\\xffno'
    """
    try:
        text = msgspec.json.format(data, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = data.decode(errors="backslashreplace")
    if len(text) > MOST_SHOWN:
        return f"{text[:MOST_SHOWN]}… ({len(text):,} characters)"
    return text
