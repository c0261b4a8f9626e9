"""A file that grows by whole writes: what could not be written to the end is taken out again."""

from __future__ import annotations

import os


class AppendedFile:
    """The end of a file that nobody else writes.

    Args:
        descriptor: Open for reading and appending.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._end = self._synced = os.fstat(descriptor).st_size

    def append(self, data: bytes) -> None:
        """Write this.

        Raises:
            OSError: it cannot be written; nothing of it is in the file.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except BaseException:
            os.ftruncate(self.descriptor, self._end)
            raise
        self._end += len(data)

    def sync(self) -> None:
        """Make what was written survive a loss of power.

        Raises:
            OSError: some disks tell only now that they are full; what was written since the last
                `sync` is in the file no more.
        """
        try:
            os.fsync(self.descriptor)
        except OSError:
            self.truncate(self._synced)
            raise
        self._synced = self._end

    def truncate(self, end: int) -> None:
        """Let the file end here."""
        os.ftruncate(self.descriptor, end)
        self._end = self._synced = end

    def end_line(self) -> None:
        """Begin on a line of its own, if a kill has left half a line at the end of the file."""
        if self._end and os.pread(self.descriptor, 1, self._end - 1) != b"\n":
            self.append(b"\n")
