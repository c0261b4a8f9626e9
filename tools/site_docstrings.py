"""Read the docstrings as they are meant: what Griffe expects is named a little differently."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)
_ARGS = re.compile(r"^( *)Args:$", re.MULTILINE)

#: Classes whose fields are their arguments, without an `__init__` that a reader of code could see.
_RECORDS = {"msgspec.Struct", "NamedTuple"}


class Sections(griffe.Extension):
    """Griffe looks for doctests in `Examples:`, and for the fields of a record in `Attributes:`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Give the sections the names that Griffe knows."""
        if not obj.docstring:
            return
        text = _EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
        bases = {str(base) for base in obj.bases} if isinstance(obj, griffe.Class) else set()
        obj.docstring.value = _ARGS.sub(r"\1Attributes:", text) if bases & _RECORDS else text
