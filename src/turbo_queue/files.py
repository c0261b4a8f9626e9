"""A file as a whole: opened only to look at it, read, written, its name made to last."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from turbo_queue.errors import BatchDamaged, reporting

#: What opening a name says when it is a link, a folder, a socket, or somebody else's.
NOT_OURS = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM}

#: No batch file is larger: SQLite builds them in memory, where a database ends at 1 GiB.
_LARGEST_BYTES = 1024**3


def open_regular(path: str) -> int | None:
    """The descriptor of a regular file, to read; None if there is none. Links are not followed.

    Raises:
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def read_all(descriptor: int) -> bytes:
    """All that the file holds.

    Raises:
        BatchDamaged: it is larger than any batch.
        OSError: it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    if size > _LARGEST_BYTES:
        raise BatchDamaged(f"{size:,} bytes are more than a batch has")
    data = os.pread(descriptor, size, 0)
    while len(data) < size:  # A read may be cut short by a signal.
        more = os.pread(descriptor, size - len(data), len(data))
        if not more:
            break
        data += more
    return data


def write_all(descriptor: int, data: bytes) -> None:
    """Write from the start of the file.

    Raises:
        OSError: it cannot be written; some of it may have been.
    """
    written = os.pwrite(descriptor, data, 0)
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], written)


@contextmanager
def names_on_disk(folder: str) -> Iterator[None]:
    """Make the renames of this block durable: a name lives in its folder (fsync(2)).

    The folder is opened first, so that a lack of descriptors comes before anything is renamed.

    Raises:
        FolderFailed: it cannot be opened, or written to the disk.
    """
    with reporting("opening the folder", folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
        with reporting("writing the folder to disk", folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
