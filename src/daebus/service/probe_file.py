"""A file that says how the service is, for probes that run a command instead of asking over HTTP.

Its first line is `ready`, `live` (not ready) or `stuck` (not live), the others say why. It is
replaced on every beat, so that one that has become old says that the service does not get on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from daebus.errors import SettingsError
from daebus.logs import Incidents
from daebus.service.health import Vitals

READY, LIVE, STUCK = "ready", "live", "stuck"

#: Everybody may read it: a probe may run as another user.
_MODE = 0o644


class ProbeFile:
    """The file of one replica; does nothing without a path.

    Args:
        path: where; None for no file.
        look: how the service is.
        incidents: where it is told that the file cannot be written.
    """

    def __init__(self, path: Path | None, look: Callable[[], Vitals], incidents: Incidents) -> None:
        self._path = path
        self._look = look
        self._incidents = incidents
        #: The heartbeat writes it, and whoever starts or stops the service.
        self._lock = threading.Lock()
        self._is_kept = False

    def start(self) -> None:
        """Write it for the first time.

        Raises:
            SettingsError: it cannot be written.
        """
        if self._path is None:
            return
        try:
            self._write(self._path)
        except OSError as error:
            raise SettingsError(
                f"the probe file {str(self._path)!r} cannot be written: "
                f"{error.strerror or error}. Choose another probe_file"
            ) from error
        self._is_kept = True

    def beat(self) -> None:
        """Write it anew. Called every few seconds, and when the service begins to stop."""
        with self._lock:
            if self._path is not None and self._is_kept:
                self._try(self._write, self._path)

    def close(self) -> None:
        """Remove it: there is nobody any more who is live. One that is another's stays."""
        with self._lock:
            if self._path is not None and self._is_kept:
                self._try(_remove, self._path)
            self._is_kept = False

    def _try(self, act: Callable[[Path], None], path: Path) -> None:
        try:
            act(path)
        except OSError as error:
            why = f"the probe file cannot be written or removed: {error}"
            self._incidents.report("probe_file", why)

    def _write(self, path: Path) -> None:
        new = path.parent / f".{path.name}.{os.getpid()}.new"
        # A new file: in a folder like /tmp another user may have made one of this name.
        _remove(new)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            with os.fdopen(descriptor, "w") as file:
                os.fchmod(descriptor, _MODE)
                file.write(_text(self._look()))
            new.replace(path)
        except OSError:
            _remove(new)
            raise


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _text(vitals: Vitals) -> str:
    state = READY if vitals.is_ready else LIVE if vitals.is_live else STUCK
    return "".join(f"{line}\n" for line in (state, *vitals.troubles))
