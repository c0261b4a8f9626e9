"""Pieces of Python source: names, texts and statements, as `ruff format` leaves them. Pure.

What they are made of may come from a service that somebody else runs, so no text of a contract
becomes anything but a name, a literal or a docstring.
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Iterable
from typing import Any

#: The longest line, in characters: what ruff and black have if nobody says otherwise.
WIDTH = 88

#: Names that annotations use.
RESERVED = frozenset(
    {"Any", "DaebusCaller", "Decimal", "Literal", "Self", "TracebackType", "UUID", "dt", "msgspec"}
    | {"bool", "bytes", "dict", "float", "int", "list", "object", "str", "tuple", "type"}
)


class Names:
    """Names that are not taken yet."""

    def __init__(self, taken: Iterable[str] = RESERVED) -> None:
        self._taken = set(taken)

    def free(self, text: str, instead: str) -> str:
        """A name as much like `text` as can be.

        Args:
            text: what is to be named; any text.
            instead: what the name begins with where the text cannot.
        """
        plain = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
        if not plain or plain[0].isdigit():
            plain = f"{instead}_{plain}".rstrip("_")
        if keyword.iskeyword(plain) or plain in self._taken:
            plain += "_"
        name, number = plain, 1
        while name in self._taken:
            number += 1
            name = f"{plain.rstrip('_')}_{number}"
        self._taken.add(name)
        return name

    @property
    def taken(self) -> frozenset[str]:
        """All names that were taken so far."""
        return frozenset(self._taken)


def literal(value: Any) -> str:
    """A scalar JSON value as Python source."""
    text = repr(value)
    if not isinstance(value, str) or value.count('"') > value.count("'"):
        return text
    if text.startswith('"'):
        return text
    inner = text[1:-1].replace("\\'", "'").replace('"', r"\"")
    return f'"{inner}"'


def docstring(text: str, indent: str) -> str:
    """A docstring, with its indentation and its line break."""
    clean = inspect.cleandoc(text.replace("\0", "")).strip()
    lines = [line.rstrip() for line in _escaped(clean).split("\n")]
    if len(lines) == 1:
        return f'{indent}"""{lines[0]}"""\n'
    inner = "\n".join(f"{indent}{line}".rstrip() for line in lines[1:])
    return f'{indent}"""{lines[0]}\n{inner}\n{indent}"""\n'


def _escaped(text: str) -> str:
    """A docstring's text, in which no quotes end it, or stand beside those that do."""
    alone = re.sub(r'^"|"$|"(?=")|(?<=")"', "\0", text)
    return "".join(
        r"\"" if each == "\0" else each if _is_plain(each) else repr(each)[1:-1] for each in alone
    )


def _is_plain(character: str) -> bool:
    return character == "\n" or (character.isprintable() and character != "\\")


def bracketed(start: str, items: list[str], end: str, indent: str) -> str:
    """A call, a list of parameters or the like: in one line, or each item in its own."""
    line = f"{indent}{start}{', '.join(items)}{end}"
    if len(line) <= WIDTH and "\n" not in line:
        return f"{line}\n"
    rows = "".join(f"{indent}    {item},\n" for item in items)
    return f"{indent}{start}\n{rows}{indent}{end}\n"


def statement(text: str, indent: str) -> str:
    """A statement that stands in one line, however long it is."""
    line = f"{indent}{text}"
    return f"{line}\n" if len(line) <= WIDTH else f"{line}  # fmt: skip\n"
