"""How processes wake each other: a FIFO in the queue's folder, rung with a byte, heard with a wait.

A producer rings `ready` for each batch, a consumer rings `room` for each that it takes. Unlike a
watch on the folder (inotify), which wakes all forty idle consumers for one batch, the kernel wakes
one of those that wait here (`EPOLLEXCLUSIVE`, epoll_ctl(2)). And a bell that is silent tells its
ringer that somebody came for the last ring.

A ring may be lost when who heard it dies. So nobody waits longer than a moment without a look at
the folder; the bell is only the fast way.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

from turbo_queue.errors import FolderRefused, reporting


class Bell:
    """One bell. For any thread, also while another one closes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = self._open()
        self._listen: Callable[[float], object] | None = None
        self._lock = threading.Lock()
        self._listeners = 0
        self._is_closed = False

    def ring(self) -> None:
        """Wake one of those who wait, now or at their next wait."""
        with self._lock:
            try:
                if not self._is_closed:
                    os.write(self._descriptor, b"\0")
            except BlockingIOError:
                pass  # Full of rings that nobody has heard: no need for another.

    def silence(self) -> None:
        """Take all rings that nobody has heard. Look at the folder after that, then wait."""
        with self._lock:
            try:
                if not self._is_closed:
                    os.read(self._descriptor, 65536)
            except BlockingIOError:
                pass

    def is_silent(self) -> bool:
        """Whether every ring was heard: those who listen wait for more."""
        unheard = fcntl.ioctl(self._descriptor, termios.FIONREAD, b"\0\0\0\0")
        return not any(unheard)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a ring; False if none came in time, or the bell was closed."""
        with self._lock:
            if self._is_closed:
                return False
            if self._listen is None:
                with reporting("listening to a bell", self._path):
                    self._listen = self._new_listener()
            listen = self._listen
            self._listeners += 1
        try:
            return bool(listen(timeout_s))
        finally:
            with self._lock:
                self._listeners -= 1
                if self._is_closed and not self._listeners:
                    self._free()

    def close(self) -> None:
        """Free the descriptors, once nobody listens any more; the bell stays for others."""
        with self._lock:
            is_first, self._is_closed = not self._is_closed, True
            if is_first and not self._listeners:
                self._free()

    def after_fork(self) -> None:
        """Close what a child of `fork` has inherited."""
        self._lock = threading.Lock()  # Another thread may have held it.
        self._is_closed = True
        self._free()

    def _free(self) -> None:
        self._listen = None
        os.close(self._descriptor)

    def _new_listener(self) -> Callable[[float], object]:
        if sys.platform == "linux":
            epoll = select.epoll()
            epoll.register(self._descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            return epoll.poll
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return lambda timeout_s: poll.poll(timeout_s * 1000)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.mkfifo(self._path, 0o600)
        except FileExistsError:
            pass
        descriptor = os.open(self._path, flags)
        status = os.fstat(descriptor)
        if not stat.S_ISFIFO(status.st_mode) or status.st_uid != os.getuid():
            os.close(descriptor)
            raise FolderRefused(str(self._path), "this must be a FIFO of yours; move it away")
        return descriptor
