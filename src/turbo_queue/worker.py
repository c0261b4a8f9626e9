"""One worker process, as its parent sees it: sent to, asked to stop, killed, waited for."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any

from turbo_queue.worker_ends import STOP

#: How long a process may take until it runs our code, in seconds. With `spawn` it imports the
#: program first; a child of `fork` may hang in a lock that another thread held.
HELLO_S = 120.0

#: How long a process that has closed its pipe, or was killed, may take to be gone, in seconds.
GONE_S = 0.2
KILLED_S = 5.0


class Worker:
    """A worker process, and the parent's ends of what joins the two."""

    def __init__(self, process: Any, pipe: Connection, lifeline: Connection) -> None:
        self.pid: int = process.pid
        #: When it is overdue, on the monotonic clock. Set by the watching thread alone.
        self.limit_at: float | None = monotonic() + HELLO_S
        self.is_ready = False
        #: Whether it was told to end; what it does until then is its last.
        self.is_leaving = False
        self.has_worked = False
        #: Whether the server that forked it has gone (`forkserver`): its end is told by its pipe.
        self.is_orphan = False
        #: What it said before it failed.
        self.last_words = ""
        self.process = process
        self.pipe = pipe
        self.lifeline = lifeline

    def send(self, data: bytes) -> None:
        """Send it something; nothing happens if it has just died."""
        try:
            self.pipe.send_bytes(data)
        except OSError:
            pass  # The watching thread will notice.

    def ask_to_stop(self) -> None:
        """Ask it to end once it has done what it does."""
        self.is_leaving = True
        self.send(STOP)

    def kill(self) -> None:
        """End it now, whatever it does."""
        if not self.is_orphan:
            self.process.kill()
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> str:
        """Wait until it is gone, killing it if that does not come by itself; give how it ended."""
        if self.process.exitcode is None:
            self.process.join(GONE_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join(KILLED_S)
        how = _ending(self.process.exitcode)
        return f"{how} ({self.last_words})" if self.last_words else how


def _ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "ended in a way that is not known"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
