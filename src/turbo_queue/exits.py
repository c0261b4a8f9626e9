"""Closes what is still open when a process ends normally, by an exception or by SIGTERM.

`multiprocessing` ends its children without running `atexit`, but runs the finalizers of its `util`
module there and in the main process; so those are used. SIGTERM ends a Python process on the spot
unless somebody handles it: while a producer is open, and the program has no handler of its own, it
becomes a `SystemExit`, as after `sys.exit(143)`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import util
from types import FrameType
from typing import Any

from turbo_queue.errors import TurboQueueError

logger = logging.getLogger(__name__)

#: What shells give as the exit code of a process that SIGTERM ended.
_EXIT_CODE = 128 + signal.SIGTERM

#: Finalizers with a higher number run earlier; 10 is before those of multiprocessing's own queues.
_PRIORITY = 10


class AtExit:
    """One function that is called when this process ends, unless it is cancelled before.

    Args:
        close: The function. What it raises is logged, because nobody is left to catch it.
    """

    def __init__(self, close: Callable[[], Any]) -> None:
        self._close = close
        self._finalizer = util.Finalize(None, self._run, exitpriority=_PRIORITY)

    def cancel(self) -> None:
        """Do not call it any more."""
        self._finalizer.cancel()

    def _run(self) -> None:
        try:
            self._close()
        except TurboQueueError as error:
            logger.error("closing at the end of the process failed: %s", error)


class SigtermExits:
    """While in use at least once, SIGTERM unwinds the program instead of ending it on the spot."""

    def __init__(self) -> None:
        self._users = 0
        self._owner_pid = 0
        self._lock = threading.Lock()

    def use(self) -> None:
        """Begin to use it; does nothing outside the main thread or beside another handler."""
        with self._lock:
            if self._owner_pid != os.getpid():
                self._owner_pid, self._users = os.getpid(), 0
            self._users += 1
            if (
                threading.current_thread() is threading.main_thread()
                and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            ):
                signal.signal(signal.SIGTERM, _exit)

    def leave(self) -> None:
        """Stop to use it; the last one out puts the default back."""
        with self._lock:
            self._users -= 1
            if (
                self._users == 0
                and threading.current_thread() is threading.main_thread()
                and signal.getsignal(signal.SIGTERM) is _exit
            ):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_EXIT_CODE)


sigterm_exits = SigtermExits()
