"""The service's own presence: a key on the server that says what it does, while it is alive.

A sorted set has the ids of all replicas, so that a caller finds them without a search.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from daebus.bus.commands import Command, pack
from daebus.bus.link import Link
from daebus.bus.presence import EXPIRE_S, REFRESH_S, Replica, encode_replica
from daebus.channels import presence_key, replicas_key
from daebus.errors import DaebusError
from daebus.logs import Incidents, describe, get_logger

log = get_logger(__name__)

#: An id that was not refreshed for so long is taken out of the set of replicas, in seconds: far
#: longer than the clocks of two machines differ. Callers look at the presence keys, too.
FORGET_AFTER_S = 3600


class Heartbeat:
    """A thread that refreshes the presence key.

    Args:
        link: where the key is written.
        describe_replica: what stands in it.
        incidents: its bursts are ended on the same beat.
        on_beat: called on the same beat.
    """

    def __init__(
        self,
        link: Link,
        describe_replica: Callable[[], Replica],
        incidents: Incidents,
        on_beat: Iterable[Callable[[], None]],
    ) -> None:
        self._link = link
        self._describe = describe_replica
        self._incidents = incidents
        self._on_beat = list(on_beat)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daebus-heartbeat", daemon=True)

    def start(self) -> None:
        """Write the key, and start the thread."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Remove the key, and end the thread."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        self._thread.join(1.0)
        replica = self._describe()
        key = presence_key(replica.service, replica.replica_id)
        self._link.send(Command(pack("ZREM", replicas_key(replica.service), replica.replica_id)))
        self._link.send(Command(pack("DEL", key)))

    def _run(self) -> None:
        while not self._stopping.wait(REFRESH_S):
            try:
                self._beat()
                self._incidents.flush()
                for function in self._on_beat:
                    function()
            except Exception as error:  # noqa: BLE001 - the next beat may succeed; the key expires until then.
                log.warning("no presence: %s", describe(error), extra={"event": "presence.error"})

    def _beat(self) -> None:
        if not self._link.is_up:
            return
        replica = self._describe()
        key = presence_key(replica.service, replica.replica_id)
        names, now = replicas_key(replica.service), time.time()
        beat = [
            pack("SET", key, encode_replica(replica), "PX", int(EXPIRE_S * 1000)),
            pack("ZADD", names, repr(now), replica.replica_id),
            pack("ZREMRANGEBYSCORE", names, "-inf", repr(now - FORGET_AFTER_S)),
        ]
        try:
            self._link.send_all([Command(each) for each in beat])
        except DaebusError as error:
            log.warning("no presence: %s", describe(error), extra={"event": "presence.error"})
