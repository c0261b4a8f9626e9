"""Keeps how far a source was read that does not keep it itself, in a small file."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from turbo_queue.errors import reporting
from turbo_queue.files import write_all

logger = logging.getLogger(__name__)

_NEW = ".new"


class PositionFile:
    """A position on disk, replaced as a whole.

    Args:
        path: The file; its folder is there.
        fsync: Make it survive a loss of power.
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._path = path
        self._fsync = fsync

    def load(self) -> Any:
        """The position that was saved last; None if there is none, or it is damaged.

        Raises:
            FolderFailed: it cannot be read.
        """
        with reporting("reading the position", self._path):
            try:
                return json.loads(self._path.read_bytes())
            except FileNotFoundError:
                return None
            except ValueError:
                logger.warning(
                    "beginning at the start of the source: %s is damaged",
                    self._path,
                    extra={"event": "pipeline.position_damaged"},
                )
                return None

    def save(self, position: Any) -> None:
        """Keep this one; after a kill at any moment there is the old one or the new one.

        Raises:
            FolderFailed: it cannot be written.
        """
        new = self._path.with_name(self._path.name + _NEW)
        with reporting("writing the position", self._path):
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                write_all(descriptor, json.dumps(position).encode())
                if self._fsync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.replace(self._path)

    def forget(self) -> None:
        """Begin at the start the next time.

        Raises:
            FolderFailed: the file cannot be removed.
        """
        with reporting("removing the position", self._path):
            self._path.unlink(missing_ok=True)
