"""Makes text of others harmless: no event's text drives a terminal, or passes for another line."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(text: str) -> str:
    r"""Escape control characters, line breaks among them.

    Example:
        >>> printable("one" + chr(10) + "two")
        'one\\ntwo'
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
