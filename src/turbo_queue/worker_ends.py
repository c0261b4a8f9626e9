"""The two ends of what joins a worker process to its parent: a pipe, and a lifeline.

Each end belongs to one process. A child of `fork` inherits all that its parent has open, so it
closes at once what is not its own: while anybody has the parent's end open, a worker would not
notice that its parent has died.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe, current_process
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any, NoReturn

from turbo_queue.errors import TurboQueueError

logger = logging.getLogger(__name__)

#: The first byte of what a worker sends: it runs; it is ready; it fails, and why; a message.
HELLO, READY, FAILED, MESSAGE = b"\0", b"\1", b"\2", b"\3"

#: What the parent sends to ask for the end; messages are never empty.
STOP = b""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Parent:
    """The parent, as a worker process sees it.

    When the parent dies, however that happens, this process ends with it, whatever it does.
    """

    def __init__(self, pipe: Connection) -> None:
        #: Set when the parent asks this worker to end.
        self.stopping = threading.Event()
        self._pipe = pipe
        self._sending = threading.Lock()
        self._received: SimpleQueue[bytes] = SimpleQueue()
        self._send(HELLO)
        threading.Thread(target=self._read, name="turbo-queue-parent", daemon=True).start()

    def ready(self) -> None:
        """Say that this worker can work now."""
        self._send(READY)

    def send(self, data: bytes) -> None:
        """Send something. For any thread."""
        self._send(MESSAGE + data)

    def receive(self) -> bytes:
        """Wait for the next thing that the parent sends."""
        return self._received.get()

    def fail(self, reason: str) -> None:
        """Say why this worker ends."""
        self._send(FAILED + reason.encode(errors="replace"))

    def _send(self, frame: bytes) -> None:
        try:
            with self._sending:
                self._pipe.send_bytes(frame)
        except OSError:
            _end_with_parent()

    def _read(self) -> None:
        while True:
            try:
                data = self._pipe.recv_bytes()
            except (EOFError, OSError):
                _end_with_parent()
            if data == STOP:
                self.stopping.set()
            else:
                self._received.put(data)


def run_worker(
    pipe: Connection,
    lifeline: Connection,
    target: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    """What a worker process runs."""
    _show_name(current_process().name)
    for number in _SIGNALS:
        # A function, not SIG_IGN: programs that a worker starts would ignore the signal, too.
        signal.signal(number, _leave_it_to_the_parent)
        signal.siginterrupt(number, False)  # noqa: FBT003
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    _end_when_cut(lifeline)
    _of_worker.extend((pipe, lifeline))
    parent = Parent(pipe)
    try:
        target(parent, *arguments)
    except TurboQueueError as error:  # Its text says all.
        logger.error("a worker process failed: %s", error, extra={"event": "worker.failed"})
        parent.fail(str(error))
        sys.exit(1)
    except BaseException as error:
        logger.exception("a worker process failed", extra={"event": "worker.failed"})
        parent.fail(f"{type(error).__name__}: {error}")
        sys.exit(1)


def _show_name(name: str) -> None:
    """Let `top` and `ps` show what this process is (proc(5), /proc/pid/comm; 15 characters)."""
    try:
        Path("/proc/self/comm").write_text(name[:15])
    except OSError:
        pass  # Not Linux.


def _leave_it_to_the_parent(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C goes to all processes of a terminal, systemd's SIGTERM to all of a service."""


def _end_with_parent() -> NoReturn:
    os._exit(1)


def _end_when_cut(lifeline: Connection) -> None:
    """Have the kernel end this process when its parent is gone.

    The thread that reads the pipe would do, if no code held the GIL for minutes, as a regular
    expression may. Linux sends SIGIO when the other end is closed (fcntl(2), F_SETOWN), and that
    ends a process that has not asked for it.
    """
    if sys.platform == "linux":
        descriptor = lifeline.fileno()
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)


# --- what a fork must not inherit ---


#: Held while a worker is being started: another thread's fork waits until all ends are noted.
_starting = threading.RLock()

_of_parents: set[Connection] = set()
_of_worker: list[Connection] = []


@contextmanager
def starting() -> Iterator[tuple[Connection, Connection, tuple[Connection, Connection]]]:
    """Both ends for one worker: the parent's pipe and lifeline, and those of the worker.

    A worker is started within the block; at its end the parent has only its own ends.
    """
    with _starting:
        mine, theirs = Pipe()
        their_lifeline, my_lifeline = Pipe(duplex=False)
        _of_parents.update((mine, my_lifeline))
        try:
            yield mine, my_lifeline, (theirs, their_lifeline)
        except BaseException:
            close(mine, my_lifeline)
            raise
        finally:
            theirs.close()
            their_lifeline.close()


def close(*ends: Connection) -> None:
    """Close ends of the parent's."""
    for end in ends:
        _of_parents.discard(end)
        end.close()


def _after_fork() -> None:
    global _starting  # noqa: PLW0603 - the parent's is held
    _starting = threading.RLock()
    close(*_of_parents)
    if _of_worker:
        # A worker's own child: its signals are its own business again.
        for end in _of_worker:
            end.close()
        _of_worker.clear()
        for number in _SIGNALS:
            if signal.getsignal(number) is _leave_it_to_the_parent:
                signal.signal(number, signal.SIG_DFL)


os.register_at_fork(
    before=lambda: _starting.acquire(),  # noqa: PLW0108 - a child has another lock
    after_in_parent=lambda: _starting.release(),  # noqa: PLW0108
    after_in_child=_after_fork,
)
