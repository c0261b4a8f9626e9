"""Looks at all that is running, again and again: at the server, and at folders of this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from daebus import settings
from daebus.bus.connection import display
from daebus.bus.overview import Inbox, Overview, Seen
from daebus.errors import DaebusError, ServerUnavailable, SettingsError
from daebus.operate.fleet.figures import Said, Track, service_view
from daebus.operate.fleet.folders import FolderWatch
from daebus.operate.fleet.views import Fleet, ServiceView
from daebus.operate.letters import DeadLetters

#: How long a service is still shown whose replicas have all gone, in seconds.
FORGET_AFTER_S = 60.0


def folders_to_watch(given: Sequence[Path], place: Path | None) -> list[Path]:
    """The folders given, else those of the environment's `DAEBUS_FOLDERS`, else the services' own.

    Args:
        given: what the command line says.
        place: where services of this machine keep files; None for the user's own place.

    Raises:
        SettingsError: none is named, and this user has no place of their own.
    """
    return [*given] or settings.folders() or [place or settings.state_folder()]


class FleetWatch:
    """Looks at services, queues and pipelines. For one thread at a time.

    Args:
        url: the server's address.
        folders: where queues and pipelines are looked for: each is one, or has some below it.
        place: where services of this machine keep files; None for the user's own place.

    Example:
        >>> watch = FleetWatch("embedded://", [])
        >>> watch.look().address
        'embedded://'
        >>> watch.close()
    """

    def __init__(self, url: str, folders: Sequence[Path], place: Path | None = None) -> None:
        self._url = url
        self._place = place
        self._overview = Overview(url)
        self._folders = FolderWatch(folders)
        #: Of the replicas, by service and id.
        self._tracks: dict[str, dict[str, Track]] = {}
        #: When each service was seen alive last, on the monotonic clock.
        self._seen_s: dict[str, float] = {}
        self._services: list[ServiceView] = []

    def look(self) -> Fleet:
        """What is running now, with the rates since earlier looks.

        A server that cannot be reached is no error but a `trouble`, and the next look tries again.

        Raises:
            SettingsError: the address makes no sense.
        """
        trouble = None
        try:
            self._take(self._overview.look())
        except ServerUnavailable as error:
            trouble = str(error)
        queues, pipelines = self._folders.look()
        return Fleet(
            at=time.time(),
            address=display(self._url),
            services=self._services,
            queues=queues,
            pipelines=pipelines,
            trouble=trouble,
        )

    def close(self) -> None:
        """Close the connection; another look opens it again."""
        self._overview.close()

    def _take(self, seen: Seen) -> None:
        now_s, at = monotonic(), time.time()
        tracks: dict[str, dict[str, Track]] = {}
        for beat in sorted(seen.beats, key=lambda beat: beat.replica.started_at):
            service, replica_id = beat.replica.service, beat.replica.replica_id
            said = Said(beat.replica, now_s - beat.age_s)
            known = self._tracks.get(service, {}).get(replica_id)
            tracks.setdefault(service, {})[replica_id] = known.then(said) if known else Track(said)
            self._seen_s[service] = now_s
        self._tracks = tracks
        self._services = [
            service_view(
                service,
                list(tracks.get(service, {}).values()),
                seen.inboxes.get(service, Inbox()),
                dead_on_disk=self._dead_on_disk(service),
                now_s=now_s,
                at=at,
            )
            for service in self._shown(seen, now_s)
        ]

    def _shown(self, seen: Seen, now_s: float) -> list[str]:
        """The services that live, did so a moment ago, or have something that waits for them."""
        self._seen_s = {
            service: seen_s
            for service, seen_s in self._seen_s.items()
            if now_s - seen_s < FORGET_AFTER_S
        }
        left = {name for name, inbox in seen.inboxes.items() if inbox.waiting or inbox.dead}
        return sorted(left | self._seen_s.keys())

    def _dead_on_disk(self, service: str) -> int:
        try:
            return DeadLetters(service, self._url, self._place).on_disk()
        except SettingsError:
            raise
        except DaebusError:
            return 0  # A folder that is not this user's; who asks for the letters is told so.
