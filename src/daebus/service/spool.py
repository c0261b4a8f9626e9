"""The folders in which a service keeps messages on disk: one for each replica on this machine.

    <place>/<service>-<digest>/<number>/spill-threads/…   what memory has no room for
                                       /work/…            what goes to the worker processes

A replica has the folder with the lowest number that no other one has, so that what is left when it
stops is there at its next start; a folder that nobody has is adopted by whoever starts.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import weakref
from pathlib import Path

from daebus import settings
from daebus.bus.connection import display
from daebus.bus.folders import private_folder
from daebus.errors import SettingsError

#: Most replicas of one service on one machine.
MAX_REPLICAS = 1_000

_LOCK = ".lock"


def spool_folder(place: Path | None, service: str, url: str) -> Path:
    """Where all replicas of a service on this machine have their folders.

    Args:
        place: the folder for all services; None for the user's own place.
        service: the service's name.
        url: the server's address: services of one name on two servers are two services.
    """
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", service)[:60]
    digest = hashlib.sha256(f"{service}\0{display(url)}".encode()).hexdigest()[:12]
    return (place or settings.state_folder()) / f"{readable}-{digest}"


class Spool:
    """One replica's folder, which is its own while this is open.

    Args:
        folder: see `spool_folder`.

    Raises:
        SettingsError: the folder cannot be made, or others may write to it.
    """

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        for number in range(MAX_REPLICAS):
            path = private_folder(folder / str(number))
            lock = _lock(path)
            if lock is not None:
                break
        else:
            raise SettingsError(f"{MAX_REPLICAS} replicas have a folder in {folder} already")
        self.path = path
        self._folder = folder
        self._locks = [lock]
        self._adopted: list[Path] = []
        _open_spools.add(self)

    def adopt(self) -> list[Path]:
        """The folders that nobody had, now and at earlier calls; they are this replica's now."""
        for path in sorted(self._folder.iterdir()):
            if path.name.isdecimal() and path != self.path:
                lock = _lock(path)
                if lock is not None:
                    self._locks.append(lock)
                    self._adopted.append(path)
        return list(self._adopted)

    def close(self) -> None:
        """Let others have the folder."""
        _open_spools.discard(self)
        self._close_locks()

    def _close_locks(self) -> None:
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()


def _lock(path: Path) -> int | None:
    """Take a folder; None when another process, or another service of this one, has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(path / _LOCK, flags, mode=0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _close_in_child() -> None:
    """A child of `fork` must not keep the folder taken when its parent has died."""
    for spool in list(_open_spools):
        spool._close_locks()  # noqa: SLF001 - a part of it
    _open_spools.clear()


os.register_at_fork(after_in_child=_close_in_child)
