"""Processes that may outlive the one that starts them: the shared server and its keeper."""

from __future__ import annotations

import subprocess
from typing import BinaryIO, ClassVar


class Outliving(subprocess.Popen[bytes]):
    """A process in a session of its own that has inherited a lock.

    All are kept, so that one that ends before this process can be reaped.
    """

    _started: ClassVar[list[Outliving]] = []

    def __init__(self, command: list[str], output: BinaryIO | int, lock: int) -> None:
        super().__init__(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[lock],
            start_new_session=True,
            cwd="/",
        )
        self._started.append(self)

    def __del__(self) -> None:
        """Do not warn at this process's end that it still runs, as Popen does."""

    @classmethod
    def reap(cls) -> None:
        """Reap those that have ended."""
        cls._started[:] = [process for process in cls._started if process.poll() is None]
