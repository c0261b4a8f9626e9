"""Writes lines to a file, a pipe or stdout: what was flushed is there whole, whatever comes."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from turbo_queue.connectors.appended_file import AppendedFile
from turbo_queue.connectors.gzip_members import member, whole_bytes
from turbo_queue.connectors.interface import Refused, Writer
from turbo_queue.errors import SinkFailed, SinkGone
from turbo_queue.records import Record

logger = logging.getLogger(__name__)

#: How soon a wait for whoever reads a pipe sees that the end is wished for, in seconds.
_LOOK_S = 0.1

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Output(Protocol):
    """Takes bytes."""

    def append(self, data: bytes) -> None:
        """Write this."""

    def sync(self) -> None:
        """Make what was written survive a loss of power, where that can be."""


class LineWriter(Writer):
    """Gathers lines, and writes them at each flush.

    Args:
        descriptor: Where to; closed in the end.
        output: What writes there.
        encode: From a value to a line.
        seal: From the lines of a flush to what is written.
    """

    def __init__(
        self,
        descriptor: int,
        output: Output,
        encode: Callable[[object], bytes],
        seal: Callable[[bytes], bytes],
    ) -> None:
        self._descriptor: int | None = descriptor
        self._output = output
        self._encode = encode
        self._seal = seal
        self._lines: list[bytes] = []
        self._refused: list[Refused] = []

    def write(self, records: list[Record]) -> None:
        """See `Writer`."""
        for record in records:
            try:
                self._lines.append(self._encode(record.value))
            except (TypeError, ValueError) as error:
                self._refused.append(Refused(record, str(error)))

    def flush(self) -> list[Refused]:
        """See `Writer`."""
        if self._lines:
            self._output.append(self._seal(b"\n".join([*self._lines, b""])))
            self._lines.clear()
            self._output.sync()
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """See `Writer`."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def opened(path: str, encode: Callable[[object], bytes], stopping: threading.Event) -> LineWriter:
    """A writer to the end of this file; it is made if it is not there, for its owner to read.

    Raises:
        SinkFailed: another sink writes to it, it is not what its name says, or it is a pipe that
            nobody reads.
        OSError: it cannot be opened.
    """
    descriptor = _opened_pipe(path) if _is_pipe(path) else os.open(path, _FLAGS, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return LineWriter(descriptor, _Pipe(descriptor, stopping), encode, _as_they_are)
        is_gzip = path.endswith(".gz")
        output = _mended(path, descriptor, is_gzip=is_gzip)
        return LineWriter(descriptor, output, encode, member if is_gzip else _as_they_are)
    except BaseException:
        os.close(descriptor)
        raise


def opened_stdout(encode: Callable[[object], bytes], stopping: threading.Event) -> LineWriter:
    """A writer to stdout.

    Raises:
        SinkFailed: stdout is closed.
    """
    if sys.__stdout__ is None:  # The descriptor is another file's by now.
        raise SinkFailed("stdout is closed; name a file")
    descriptor = os.dup(1)
    return LineWriter(descriptor, _Stdout(descriptor, stopping), encode, _as_they_are)


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 - as all calls here
    except OSError:
        return False  # Opening it says why.


def _opened_pipe(path: str) -> int:
    """A named pipe, not open for reading: what it takes while nobody else reads would be lost."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise SinkFailed(f"nobody reads the pipe {path!r}; start its reader first") from None
        raise
    os.set_blocking(descriptor, True)
    return descriptor


def _mended(path: str, descriptor: int, *, is_gzip: bool) -> AppendedFile:
    """The end of a file, without what a kill has left there."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SinkFailed(f"another sink writes to {path!r}; each needs its own file") from None
    file = AppendedFile(descriptor)
    size = os.fstat(descriptor).st_size
    if size == 0:
        _sync_folder(path)
    elif not is_gzip:
        file.end_line()
    elif (end := whole_bytes(descriptor)) < size:
        file.truncate(end)
        logger.warning(
            "%r ended in the middle of a write; its last %d bytes were taken out",
            path,
            size - end,
            extra={"event": "lines.mended"},
        )
    return file


def _sync_folder(path: str) -> None:
    """Make a new file's name survive a loss of power, too."""
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _as_they_are(lines: bytes) -> bytes:
    return lines


class _Pipe:
    """Writes to what may not be read at the moment; what it has taken is gone."""

    def __init__(self, descriptor: int, stopping: threading.Event) -> None:
        self._descriptor = descriptor
        self._stopping = stopping

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            while not select.select([], [self._descriptor], [], _LOOK_S)[1]:
                if self._stopping.is_set():
                    raise SinkFailed("whoever reads the lines does not go on, and the end came")
            # A pipe that is said to have room has it for so much (pipe(7)).
            rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]

    def sync(self) -> None:
        """Nobody can make a reader keep what it reads."""


class _Stdout(_Pipe):
    """A pipe that nobody can open again."""

    def append(self, data: bytes) -> None:
        try:
            super().append(data)
        except BrokenPipeError:
            raise SinkGone("whoever read stdout has gone") from None
