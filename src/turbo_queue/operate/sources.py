"""Where imported lines come from: a file or stdin."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from turbo_queue.errors import SettingsError
from turbo_queue.operate.stopping import Stop

STDIN = "-"

#: How much is read at once: enough to be quick, few enough for a signal to be heard soon.
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read lines from.

    Args:
        name: What it is called in errors.
        descriptor: Where to read.
        size: Its size in bytes, if that is known.
    """

    name: str
    descriptor: int
    size: int | None

    def lines(self, stop: Stop) -> Iterator[list[bytes]]:
        """The lines, as many at a time as are there, until the end or a signal."""
        parts: list[bytes] = []
        while stop.wait_readable(self.descriptor):
            data = os.read(self.descriptor, _CHUNK_BYTES)
            if not data:
                yield [b"".join(parts)]
                return
            head, line_end, rest = data.rpartition(b"\n")
            if line_end:
                yield b"".join([*parts, head]).split(b"\n")
                parts.clear()
            parts.append(rest)


@contextmanager
def opened(file: str) -> Iterator[Source]:
    """The source of this name, `-` for stdin.

    Raises:
        OSError: it cannot be opened.
    """
    if file != STDIN:
        with Path(file).open("rb", buffering=0) as opened_file:
            yield _source(file, opened_file.fileno())
    elif sys.stdin is None:
        raise SettingsError("stdin is closed; name a file")
    else:
        yield _source("stdin", sys.stdin.fileno())


def _source(name: str, descriptor: int) -> Source:
    status = os.fstat(descriptor)
    return Source(name, descriptor, status.st_size if stat.S_ISREG(status.st_mode) else None)
