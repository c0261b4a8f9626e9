"""Where exported lines go: a file or stdout."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from turbo_queue.connectors.appended_file import AppendedFile
from turbo_queue.operate.stopping import Stop

STDOUT = "-"

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Sink:
    """Takes lines as a whole: what `write` could not write to the end is taken out again.

    That is for files of our own; what a pipe has taken is gone.

    Args:
        descriptor: Where to write.
        stop: Ends a wait for a reader who does not read.
        is_own: Whether it is a file that nobody else writes.
    """

    def __init__(self, descriptor: int, stop: Stop, *, is_own: bool) -> None:
        self._descriptor = descriptor
        self._stop = stop
        status = os.fstat(descriptor)
        self._is_file = stat.S_ISREG(status.st_mode)
        self._own = AppendedFile(descriptor) if self._is_file and is_own else None

    def write(self, data: bytes) -> None:
        """Write this.

        Raises:
            OSError: it cannot be written.
            Stopped: a signal came, and whoever reads does not go on.
        """
        if self._own:
            self._own.append(data)
        else:
            self._write(memoryview(data))

    def sync(self) -> None:
        """Make what was written survive a loss of power, if it is a file.

        Some disks tell only now that they are full.
        """
        if self._own:
            self._own.sync()
        elif self._is_file:
            os.fsync(self._descriptor)

    def end_line(self) -> None:
        """Begin on a line of its own, if a kill has left half a line at the end of the file."""
        if self._own:
            self._own.end_line()

    def _write(self, data: memoryview) -> None:
        while data:
            if not self._is_file:
                self._stop.wait_writable(self._descriptor)
            # A pipe that is said to have room has it for so much (pipe(7), `select` above).
            most = len(data) if self._is_file else select.PIPE_BUF
            data = data[os.write(self._descriptor, data[:most]) :]


@contextmanager
def opened(output: str, stop: Stop, *, append: bool) -> Iterator[Sink]:
    """The sink of this name, `-` for stdout.

    Args:
        output: The name of a file; only its owner may read it if it is new.
        stop: Ends a wait for a reader who does not read.
        append: Keep what is in the file.

    Raises:
        OSError: it cannot be opened.
    """
    if output == STDOUT:
        if sys.stdout is None:  # Else the descriptor is another file's by now.
            raise OSError(errno.EBADF, "stdout is closed")
        yield Sink(sys.stdout.fileno(), stop, is_own=False)
        return
    descriptor = os.open(output, _FLAGS | (os.O_APPEND if append else os.O_TRUNC), 0o600)
    try:
        sink = Sink(descriptor, stop, is_own=True)
        sink.end_line()
        yield sink
    finally:
        os.close(descriptor)
