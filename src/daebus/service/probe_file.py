"""A file that says how the service is, for probes that run a command instead of asking over HTTP.

Its first line is `ready`, `live` (not ready) or `stuck` (not live), the others say why. It is
replaced on every beat, so that one that has become old says that the service does not get on.
"""

from __future__ import annotations

import os
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

    def start(self) -> None:
        """Write it for the first time.

        Raises:
            SettingsError: it cannot be written.
        """
        try:
            self._write()
        except OSError as error:
            raise SettingsError(
                f"the probe file {str(self._path)!r} cannot be written: "
                f"{error.strerror or error}. Choose another probe_file"
            ) from error

    def beat(self) -> None:
        """Write it anew. Called every few seconds, and when the service begins to stop."""
        try:
            self._write()
        except OSError as error:
            why = f"the probe file cannot be written: {error}"
            self._incidents.report("probe_file", why)

    def close(self) -> None:
        """Remove it: there is nobody any more who is live."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._path is None:
            return
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        # A new file: in a folder like /tmp another user may have made one of this name.
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            os.fchmod(descriptor, _MODE)
            os.write(descriptor, _text(self._look()).encode())
        finally:
            os.close(descriptor)
        new.replace(self._path)


def _text(vitals: Vitals) -> str:
    state = READY if vitals.is_ready else LIVE if vitals.is_live else STUCK
    return "".join(f"{line}\n" for line in (state, *vitals.troubles))
