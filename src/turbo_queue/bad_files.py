"""The files in `bad/`, which are no batches: their names there, and the text beside each."""

from __future__ import annotations

import os
from pathlib import Path

from turbo_queue.errors import reporting

#: How the name of the text ends that says why a file is there.
_REASON = ".reason.txt"

#: How much of a file's name is kept, where more is added to it; names have up to 255 bytes.
_NAME_CHARACTERS = 100


def free_place(bad: Path, name: str) -> Path:
    """Where a file of this name can go without replacing another."""
    name = name[:_NAME_CHARACTERS]
    place = bad / name
    number = 0
    while place.is_symlink() or place.exists():
        number += 1
        place = bad / f"{name}.{number}"
    return place


def note_reason(place: Path, reason: str) -> None:
    """Say beside a file why it is there, if the disk has room for that."""
    try:
        place.with_name(f"{place.name}{_REASON}").write_text(f"{reason}\n")
    except OSError:
        pass  # The log has it, too.


def number_in(bad: Path) -> int:
    """How many files there are, those that say why not counted.

    Raises:
        FolderFailed: the folder cannot be read.
    """
    with reporting("listing the folder", bad):
        try:
            return sum(not name.endswith(_REASON) for name in os.listdir(bad))  # noqa: PTH208
        except FileNotFoundError:
            return 0
