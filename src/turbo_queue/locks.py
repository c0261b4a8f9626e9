"""Who owns a file: whoever holds its `flock`, which the kernel frees when the holder dies.

Neither a process id nor an age can tell a dead owner from a stopped one; this lock can. It belongs
to the open file, so it follows the file through renames, and a child of `fork` shares it: what a
child inherits must be closed there, never unlocked (see `forks`).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def lock(descriptor: int) -> bool:
    """Take the lock of an open file; False if another holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(descriptor: int) -> None:
    """Take the lock of an open file, as soon as its holder lets go."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def create_locked(path: Path | str) -> int:
    """The descriptor of an empty file with its lock held; what a dead process left there goes."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        descriptor = os.open(path, flags, 0o600)
        if lock(descriptor) and os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # Somebody took it for a dead one's, and was about to remove it.


def is_owned(path: Path) -> bool:
    """Whether somebody who lives holds the lock of this file. A file that is gone has no owner."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
