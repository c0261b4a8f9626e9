"""What the log says of a spill: one line when it begins, one now and then, one when it is over."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from daebus.logs import get_logger

log = get_logger(__name__)

#: How often it is told how much waits, in seconds. A spill that begins sooner after the last one
#: is not told of, so that a service at the edge of its limit does not fill its log.
EVERY_S = 10.0


class SpillLog:
    """Tells of one runner's spills. Used under its lock, or by its mover."""

    def __init__(self) -> None:
        self._written = 0
        self._since = 0.0
        self._is_told = False
        self._told_at = -EVERY_S

    def found(self, count: int) -> None:
        """So many messages wait on disk since an earlier run."""
        self._is_told = True
        self._since = self._told_at = monotonic()
        self._written = count
        log.info(
            "%d messages wait on disk since the last run", count, extra={"event": "spill.found"}
        )

    def written(self, count: int, folder: Path) -> None:
        """So many messages more wait on disk."""
        now = monotonic()
        self._written += count
        if not self._is_told and now - self._told_at >= EVERY_S:
            self._is_told = True
            self._since = self._told_at = now
            self._written = count
            log.warning(
                "more messages arrive than are handled; from now on they wait on disk, in %s",
                folder,
                extra={"event": "spill.began"},
            )

    def goes_on(self, count: int, size_bytes: int) -> None:
        """So much waits now."""
        now = monotonic()
        if self._is_told and now - self._told_at >= EVERY_S:
            self._told_at = now
            log.warning(
                "%d messages of %.1f MiB wait on disk",
                count,
                size_bytes / 1024 / 1024,
                extra={"event": "spill.waits"},
            )

    def ended(self) -> None:
        """Nothing waits any more."""
        if self._is_told:
            self._is_told = False
            self._told_at = monotonic()
            log.info(
                "nothing waits on disk any more; %d messages did, for %.1f s",
                self._written,
                self._told_at - self._since,
                extra={"event": "spill.over"},
            )
