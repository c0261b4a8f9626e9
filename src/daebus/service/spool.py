"""The folders in which a service keeps messages on disk: one for each replica on this machine.

    <place>/<service>-<digest>/<number>/spill-thread/…   what memory has no room for
                                       /work/…           what goes to the worker processes

A replica has the folder with the lowest number that no other one has, so that what is left when it
stops is there at its next start; a folder that nobody has is adopted by whoever starts. A service
that never keeps anything on disk makes no folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import threading
import weakref
from pathlib import Path

from daebus import settings
from daebus.bus.connection import display
from daebus.bus.folders import private_folder
from daebus.errors import SettingsError

#: Most replicas of one service on one machine.
MAX_REPLICAS = 1_000

#: The folder of what goes to the worker processes.
WORK = "work"

_LOCK = ".lock"


def spool_folder(place: Path | None, service: str, url: str) -> Path:
    """Where all replicas of a service on this machine have their folders.

    Args:
        place: the folder for all services; None for the user's own place.
        service: the service's name.
        url: the server's address: services of one name on two servers are two services.

    Raises:
        SettingsError: this user has no place of their own.
    """
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", service)[:60]
    digest = hashlib.sha256(f"{service}\0{display(url)}".encode()).hexdigest()[:12]
    return (place or settings.state_folder()) / f"{readable}-{digest}"


class Spool:
    """One replica's folder, which is its own from the first use until this is closed.

    Safe from any thread.

    Args:
        place: see `spool_folder`.
        service: the service's name.
        url: the server's address.
    """

    def __init__(self, place: Path | None, service: str, url: str) -> None:
        self._place = place
        self._service = service
        self._url = url
        self._path: Path | None = None
        self._adopted: list[Path] = []
        self._descriptors: list[int] = []
        self._opening = threading.Lock()

    @property
    def path(self) -> Path:
        """The folder, made and taken at the first use.

        Raises:
            SettingsError: it cannot be made, or others may write to it.
        """
        with self._opening:
            if self._path is None:
                try:
                    self._path = self._take_one()
                except OSError as error:
                    raise SettingsError(f"{self._folder} cannot be used: {error}") from error
                _open_spools.add(self)
            return self._path

    def exists(self) -> bool:
        """Whether a replica of the service has kept something here, now or earlier."""
        try:
            return os.path.exists(self._folder)  # noqa: PTH110 - Path.exists() raises
        except SettingsError:
            return False

    def adopt(self) -> list[Path]:
        """The folders that nobody else has, as far as there are any; they are this replica's now.

        Raises:
            SettingsError: the system refuses to look for them.
        """
        own = self.path
        with self._opening:
            try:
                for path in sorted(own.parent.iterdir()):
                    if path.name.isdecimal() and path != own and self._take(path):
                        self._adopted.append(path)
            except OSError as error:
                raise SettingsError(f"{own.parent} cannot be used: {error}") from error
            return list(self._adopted)

    def close(self) -> None:
        """Let others have the folder."""
        _open_spools.discard(self)
        self._close_descriptors()

    @property
    def _folder(self) -> Path:
        return spool_folder(self._place, self._service, self._url)

    def _take_one(self) -> Path:
        folder = private_folder(self._folder)
        for number in range(MAX_REPLICAS):
            path = private_folder(folder / str(number))
            if self._take(path):
                return path
        raise SettingsError(f"{MAX_REPLICAS} replicas have a folder in {folder} already")

    def _take(self, path: Path) -> bool:
        """Take a folder; False when another process, or another service of this one, has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path / _LOCK, flags, mode=0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptors.append(descriptor)
        return True

    def _close_descriptors(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _close_in_child() -> None:
    """A child of `fork` must not keep the folder taken when its parent has died."""
    for spool in list(_open_spools):
        spool._close_descriptors()  # noqa: SLF001 - a part of it
    _open_spools.clear()


os.register_at_fork(after_in_child=_close_in_child)
