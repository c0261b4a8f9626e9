"""Reads the lines of files one after the other, and knows how far it is."""

from __future__ import annotations

import gzip
import logging
import os
import select
import stat
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import msgspec

from turbo_queue.connectors.interface import Intake, Reader
from turbo_queue.errors import SourceFailed
from turbo_queue.records import Record

logger = logging.getLogger(__name__)

STDIN = "-"

_CHUNK_BYTES = 256 * 1024

#: So much before a place is looked at to see whether the file is still the one that was read.
_KNOWN_BYTES = 1024


class Place(msgspec.Struct, frozen=True):
    """How far a file was read."""

    path: str
    inode: int
    #: Behind the last whole line, in bytes; of a gzip file, in bytes of what it holds.
    offset: int
    #: How many whole lines there are before it.
    lines: int
    #: The checksum of what is right before it.
    crc: int
    #: How many bytes of a last line were read that had no end.
    unended_bytes: int = 0


class LineReader(Reader):
    """Reads files one after the other.

    Args:
        paths: Which; `-` is stdin.
        intake: Keeps the place.
    """

    def __init__(self, paths: Sequence[str], intake: Intake) -> None:
        self._intake = intake
        self._saved = intake.load()
        place = _place(self._saved, paths)
        first = paths.index(place.path) if place else 0
        self._next = iter(paths[first + 1 :])
        self._file: _LineFile | None = _LineFile(paths[first])
        if place:
            self._file.go_on(place)

    def read(self, most: int, timeout_s: float) -> list[Record] | None:
        """See `Reader`.

        Raises:
            SourceFailed: a gzip file is torn or damaged.
            OSError: a file cannot be opened or read.
        """
        try:
            while self._file is not None:
                records = self._file.read(most, timeout_s)
                if records is not None:
                    return records
                if (path := next(self._next, None)) is None:
                    return None
                self._file.close()
                self._file = _LineFile(path)
        except Exception:
            # What was read before is fine: it need not be read again by whoever tries again.
            self._intake.flush()
            self.commit()
            raise
        return None

    def commit(self) -> None:
        """See `Reader`."""
        place = self._file.place if self._file else None
        if place is not None:
            position = msgspec.to_builtins(place)
            if position != self._saved:
                self._intake.save(position)
                self._saved = position

    def close(self) -> None:
        """See `Reader`."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _place(saved: Any, paths: Sequence[str]) -> Place | None:
    if saved is None:
        return None
    try:
        place = msgspec.convert(saved, Place)
    except msgspec.ValidationError:
        place = None
    if place is None or place.path not in paths:
        _log_start_over("the place that was kept is in none of the files")
        return None
    return place


def _log_start_over(reason: str) -> None:
    logger.warning("beginning at the first line: %s", reason, extra={"event": "lines.started_over"})


class _LineFile:
    """The lines of one file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._name = "stdin" if path == STDIN else path
        self._file = _opened(path)
        status = os.fstat(self._file.fileno())
        self._inode = status.st_ino
        self._is_regular = stat.S_ISREG(status.st_mode) and path != STDIN
        self._is_ended = False
        #: What was read and not given: lines, and the parts of one whose end was not read.
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        #: What was given.
        self._offset = self._number = self._unended_bytes = 0
        self._known = b""

    @property
    def place(self) -> Place | None:
        """How far it was given; None for what cannot be read twice."""
        if not self._is_regular:
            return None
        return Place(
            self._path,
            self._inode,
            self._offset,
            self._number,
            zlib.crc32(self._known),
            self._unended_bytes,
        )

    def go_on(self, place: Place) -> None:
        """Go on from there, or from the first line if this is not the file that it speaks of."""
        try:
            known = self._known_before(place)
            if known is None:
                _log_start_over(f"{self._name!r} is another file than was read before, or shorter")
                self._file.seek(0)
                return
            self._known, self._offset, self._number = known, place.offset, place.lines
            self._skip_unended(place.unended_bytes)
        except BaseException:
            self.close()
            raise

    def read(self, most: int, timeout_s: float) -> list[Record] | None:
        """The next lines; none if none came in time, None at the end."""
        while not self._lines:
            if self._is_ended:
                return None
            if not self._is_regular and not _is_readable(self._file, timeout_s):
                return []
            self._receive()
        lines, self._lines = self._lines[:most], self._lines[most:]
        first = self._number + 1
        self._count(lines)
        if first == 1:  # Windows programs begin a file of UTF-8 with a mark.
            lines[0] = lines[0].removeprefix(BOM_UTF8)
        return [
            Record(line, origin=f"{self._name}:{number}")
            for number, line in enumerate(lines, first)
            if line.strip()
        ]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _known_before(self, place: Place) -> bytes | None:
        """What is right before the place; None if that is not what was there."""
        known_bytes = min(place.offset, _KNOWN_BYTES)
        if self._inode != place.inode:
            return None
        with self._reporting():
            self._file.seek(place.offset - known_bytes)
        known = self._read_exactly(known_bytes)
        return known if len(known) == known_bytes and zlib.crc32(known) == place.crc else None

    def _skip_unended(self, size: int) -> None:
        """Leave out a last line that was given, unless it was only the beginning of this one."""
        while size and not self._lines and not self._is_ended:
            self._receive()
        if size and self._lines and len(self._lines[0]) == size:
            self._count([self._lines.pop(0)])

    def _receive(self) -> None:
        data = self._read_some(_CHUNK_BYTES)
        if not data:
            self._is_ended = True
            if rest := b"".join(self._parts):
                self._lines = [rest]
            return
        head, line_end, rest = data.rpartition(b"\n")
        if line_end:
            self._lines = b"".join([*self._parts, head]).split(b"\n")
            self._parts.clear()
        self._parts.append(rest)

    def _count(self, lines: list[bytes]) -> None:
        """These are given."""
        if self._is_ended:  # Then this is the last one, which has no end.
            self._unended_bytes = len(lines[0])
            return
        self._number += len(lines)
        self._offset += sum(map(len, lines)) + len(lines)
        parts: list[bytes] = []
        missing = _KNOWN_BYTES
        for line in reversed(lines):
            parts += (b"\n", line)
            missing -= len(line) + 1
            if missing <= 0:
                break
        else:
            parts.append(self._known)
        self._known = b"".join(reversed(parts))[-_KNOWN_BYTES:]

    def _read_exactly(self, size: int) -> bytes:
        parts = []
        while size and (data := self._read_some(size)):
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _read_some(self, most: int) -> bytes:
        """What the file gives at once; b"" at its end."""
        if not isinstance(self._file, gzip.GzipFile):
            return self._file.read(most)
        with self._reporting():
            return self._file.read1(most)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceFailed(f"{self._name!r} cannot be read on: {error}") from error


def _opened(path: str) -> IO[bytes] | gzip.GzipFile:
    if path != STDIN:
        return gzip.open(path) if path.endswith(".gz") else open(path, "rb", buffering=0)  # noqa: PTH123
    if sys.__stdin__ is None:  # Else the descriptor is another file's by now.
        raise SourceFailed("stdin is closed; name a file")
    return os.fdopen(os.dup(0), "rb", buffering=0)


def _is_readable(file: IO[bytes] | gzip.GzipFile, timeout_s: float) -> bool:
    return bool(select.select([file], [], [], timeout_s)[0])
