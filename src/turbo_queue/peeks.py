"""A peek at batches that may be another's: nothing is locked, moved or waited for."""

from __future__ import annotations

import os
from collections.abc import Callable

from turbo_queue.batch_file import PROGRESS_BYTES, PROGRESS_OFFSET
from turbo_queue.errors import reporting
from turbo_queue.files import NOT_OURS, open_regular, read_all
from turbo_queue.folder import Folder
from turbo_queue.names import BatchName


def peek(folder: Folder, name: BatchName) -> bytes | None:
    """The bytes of a batch; None if it is gone or no file.

    Raises:
        BatchDamaged: there are more than a batch has.
        FolderFailed: they cannot be read.
    """
    return _read(folder, name, read_all)


def progress_of(folder: Folder, name: BatchName) -> int:
    """How many events of a batch are finished; 0 if it is gone.

    Raises:
        FolderFailed: it cannot be read.
    """
    return int.from_bytes(_read(folder, name, _read_progress) or b"", "big")


def _read_progress(descriptor: int) -> bytes:
    return os.pread(descriptor, PROGRESS_BYTES, PROGRESS_OFFSET)


def _read(folder: Folder, name: BatchName, read: Callable[[int], bytes]) -> bytes | None:
    path = folder.path_of(name)
    with reporting("reading a batch", path):
        try:
            descriptor = open_regular(path)
        except OSError as error:
            if error.errno in NOT_OURS:
                return None
            raise
        if descriptor is None:
            return None
        try:
            return read(descriptor)
        finally:
            os.close(descriptor)
