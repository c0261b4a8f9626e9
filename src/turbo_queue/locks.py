"""Who owns a file: whoever holds its `flock`, which the kernel frees when the holder dies.

Neither a process id nor an age can tell a dead owner from a stopped one; this lock can. It belongs
to the open file, so it follows the file through renames, and a child of `fork` shares it. So a
lock is always given up by unlocking, which counts for all who share it, and a child closes at
once, without unlocking, whatever its parent had opened to lock (see `forks`).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from time import monotonic, sleep

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: How often, and how long apart, a lock is tried again that somebody only looks at.
_LOOKS = 20
_LOOK_S = 0.0005

#: The descriptors of this process that hold a lock, or are about to.
_open: set[int] = set()


def open_to_lock(path: Path | str, flags: int) -> int:
    """Open a file that may be locked then; links are not followed.

    Args:
        path: The file.
        flags: As for `os.open`; a new file is its owner's alone.

    Raises:
        OSError: it cannot be opened, or is a link.
    """
    descriptor = os.open(path, flags | _FLAGS, 0o600)
    _open.add(descriptor)
    return descriptor


def lock(descriptor: int) -> bool:
    """Take the lock of a file that was opened for it; False if another owns it."""
    for _ in range(_LOOKS):
        if _try(descriptor, fcntl.LOCK_EX):
            return True
        if not _try(descriptor, fcntl.LOCK_SH):
            return False
        # Nobody owns it: somebody asks just now whether anybody does (see `is_owned`).
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        sleep(_LOOK_S)
    return False


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_soon(descriptor: int, timeout_s: float) -> bool:
    """Take the lock of a file that others hold for moments only; False if it was not free."""
    end = monotonic() + timeout_s
    while not lock(descriptor):
        if monotonic() > end:
            return False
        sleep(0.001)  # There is no flock() with a time limit.
    return True


def release(descriptor: int) -> None:
    """Give up the lock, if it is held, and close the file."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    _open.discard(descriptor)
    os.close(descriptor)


def create_locked(path: Path | str) -> int:
    """The descriptor of an empty file with its lock held; what a dead process left there goes.

    Raises:
        OSError: the file cannot be made.
    """
    while True:
        descriptor = open_to_lock(path, os.O_RDWR | os.O_CREAT)
        if lock(descriptor) and leads_to(path, descriptor):
            os.ftruncate(descriptor, 0)
            return descriptor
        release(descriptor)  # Somebody took it for a dead one's, and was about to remove it.


def status_of_name(path: Path | str, descriptor: int) -> os.stat_result | None:
    """The status of an open file, if this is still its name."""
    try:
        named = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - a Path costs more
    except FileNotFoundError:
        return None
    return named if os.path.samestat(named, os.fstat(descriptor)) else None


def leads_to(path: Path | str, descriptor: int) -> bool:
    """Whether this is still the name of the open file."""
    return status_of_name(path, descriptor) is not None


def is_owned(path: Path) -> bool:
    """Whether somebody who lives holds the lock of this file. A file that is gone has no owner."""
    try:
        descriptor = open_to_lock(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        release(descriptor)


def close_inherited() -> None:
    """In a child of `fork`: close what its parent had opened to lock; the locks stay its own."""
    for descriptor in _open:
        os.close(descriptor)
    _open.clear()
