"""Messages that wait on the server until they are handled: one of the sources of a service.

One thread takes them, as many as the replica may hold, and offers them to the handlers; where there
is no room they wait, and the rest waits on the server. Another thread renews what is in hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from daebus.bus import durability, shared
from daebus.bus.group import Entry, Group, GroupMissing
from daebus.bus.link import Link
from daebus.bus.mode import Mode, announce
from daebus.deadline import Deadline
from daebus.errors import Code, DaebusError
from daebus.logs import Incidents, describe, get_logger
from daebus.service.configuration import ServiceSettings
from daebus.service.deliveries import Holdings, InboxDelivery, Outcome
from daebus.service.exchange import Exchange
from daebus.service.intake import Intake, Offer
from daebus.service.routes import Routes
from daebus.service.settlement import Settlement

log = get_logger(__name__)

#: The longest wait of one read on the server, in seconds: below the silence after which a link
#: thinks that its connection is dead.
LONGEST_READ_S = 5.0

#: … while entries wait to be taken over one by one, in seconds.
SHORT_READ_S = 0.05

#: A read that does not come back within this time hangs, in seconds.
LATE_READ_S = 10.0

#: How long to wait for room at the handlers before trying again, in seconds.
ROOM_WAIT_S = 0.01

#: How long to wait after the server refused, and for its answers, in seconds.
PAUSE_S = 0.5
ANSWER_S = 5.0

#: From which delivery on an entry whose replicas died is handled beside no other such entry: with
#: its neighbours it would cost them their deliveries, too.
SUSPECT_AT = 3

#: The name of a consumer that has nothing goes after so many leases without a sign of life.
FORGET_AFTER_LEASES = 3


class Inbox:
    """The service's inbox, as this replica takes from it.

    Args:
        link: for all but reading, the service's own.
        service: the service's name.
        replica_id: this replica, a consumer of the service's group.
        settings: the lease, the limits, and what the messages must survive.
        routes: the durable listeners.
        make_intake: makes what takes each message, out of what offers it to its handler.
        offer: the runners.
        incidents: where what went wrong is counted.
    """

    def __init__(
        self,
        link: Link,
        service: str,
        replica_id: str,
        settings: ServiceSettings,
        routes: Routes,
        *,
        make_intake: Callable[[Offer], Intake],
        offer: Offer,
        incidents: Incidents,
    ) -> None:
        self._link = link
        self._service = service
        self._settings = settings
        self._durable = routes.durable
        self._offer_now = offer
        self._intake = make_intake(self._offer)
        self._incidents = incidents
        self._reading = Link(link.url, shared.connection_name(f"{service}:inbox"))
        lease_ms = int(settings.lease_s * 1000)
        self._group = Group(link, self._reading, service, replica_id, lease_ms)
        self._beat_s = settings.lease_s / 3
        self._holdings = Holdings(settings.prefetch)
        self._settlement = Settlement(
            self._group, self._holdings, incidents, settings.max_deliveries
        )
        self._routes = routes
        self._mode = mode_of(settings, routes)
        self._look_at_s = 0.0
        #: Since when it has been asked for messages in vain; None while it waits for room.
        self._asked_at_s: float | None = None
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._run, name="daebus-inbox", daemon=True)
        self._renewer = threading.Thread(target=self._renew, name="daebus-lease", daemon=True)

    def start(self, deadline: Deadline) -> None:
        """See `Source`."""
        facts = durability.read_facts(self._link, deadline)
        if (warning := durability.check_eviction(facts)) is not None:
            log.warning("%s", warning, extra={"event": "server.setting"})
        level = durability.check_durability(self._settings.durability, facts)
        log.info(
            "messages in the inbox of %r survive %s",
            self._service,
            durability.told(level, facts),
            extra={"event": "inbox.durability", "durability": level},
        )
        self._mode = mode_of(self._settings, self._routes, level)
        self._reading.start()
        self._reading.ensure_up(deadline)
        # Its answer comes before those to the next commands: no message is taken without it.
        self._group.read_clock()
        self._create(deadline)
        self._reader.start()
        self._renewer.start()

    def stop(self, deadline: Deadline) -> None:
        """See `Source`. What is in hand is still renewed."""
        self._stopping.set()
        self._holdings.end()
        self._group.stop_reading()
        if self._reader.is_alive():
            self._reader.join(deadline.remaining_s())

    def close(self, deadline: Deadline) -> None:
        """See `Source`. Another replica may have what is left at once."""
        self._ended.set()
        if not self._renewer.is_alive():
            return
        self._renewer.join(1.0)
        if self._link.is_up:
            self._settlement.flush()
            self._group.leave(Deadline.after(min(1.0, max(0.2, deadline.remaining_s()))))

    def is_read(self) -> bool:
        """Whether messages are taken from it as long as there is room for them."""
        asked_at_s = self._asked_at_s
        is_late = asked_at_s is not None and monotonic() - asked_at_s > LATE_READ_S
        return self._reader.is_alive() and not is_late

    # --- the thread that takes messages ---

    def _run(self) -> None:
        while (room := self._holdings.wait_for_room()) > 0:
            if self._asked_at_s is None:
                self._asked_at_s = monotonic()
            try:
                entries = self._next(room)
                self._asked_at_s = None
                for entry in entries:
                    self._take(entry)
            except GroupMissing:
                self._restore()
            except Exception as error:
                # Whatever it is, the next read may succeed: the inbox must not fall silent.
                if self._stopping.is_set():
                    return
                if not isinstance(error, DaebusError):
                    log.exception("the inbox failed", extra={"event": "inbox.error"})
                self._incidents.report(
                    "inbox_error", f"nothing could be taken from the inbox: {describe(error)}"
                )
                self._stopping.wait(PAUSE_S)

    def _next(self, room: int) -> list[Entry]:
        """What others left behind, and else what is new."""
        taken: list[Entry] = []
        block_s = min(self._beat_s, LONGEST_READ_S)
        if monotonic() >= self._look_at_s:
            # First, so that it cannot take over what it has in hand itself, but was late to renew.
            self._group.renew(self._holdings.ids(), self._lose)
            taken, has_more = self._group.take_over(
                room,
                suspects=0 if self._holdings.has_suspect() else 1,
                suspect_at=min(SUSPECT_AT, self._settings.max_deliveries),
                deadline=Deadline.after(ANSWER_S),
            )
            if not has_more:
                self._look_at_s = monotonic() + self._beat_s
            elif not taken:
                block_s = SHORT_READ_S
        if len(taken) == room:
            return taken
        return taken + self._group.read(room - len(taken), 0 if taken else int(block_s * 1000))

    def _take(self, entry: Entry) -> None:
        routes = None if entry.channel is None else self._durable.get(entry.channel, [])
        parts = 1 if routes is None else max(1, len(routes))
        delivery = InboxDelivery(entry, self._settlement.settle, parts)
        if not self._holdings.add(delivery):
            return  # It is in hand: the group was made anew, or this replica was stopped.
        if self._stopping.is_set():
            self._settlement.settle(delivery, Outcome.GIVEN_BACK, None)
            return
        try:
            if entry.deliveries > self._settings.max_deliveries:
                self._give_up(delivery)
            elif routes is None:
                age_s = self._age_s(entry)
                self._intake.take_request(entry.data, self._service, delivery, age_s)
            elif entry.channel is not None and routes:
                self._intake.take_published(entry.channel, routes, entry.data, delivery)
            else:
                # A replica of another version may have one.
                delivery.finished(f"there is no durable listener to {entry.channel!r}")
        except Exception as error:
            # One message must never end the reader, whatever is wrong with it.
            log.exception("a message could not be taken", extra={"event": "intake.error"})
            self._settlement.settle(delivery, Outcome.FAILED, describe(error))

    def _offer(self, exchange: Exchange) -> bool:
        """Wait until there is room; what is not taken when the service stops is given back."""
        while not self._offer_now(exchange):
            if not self._holdings.wait_for_change(ROOM_WAIT_S):
                if exchange.delivery is not None:
                    exchange.delivery.given_back()
                break
        return True

    def _give_up(self, delivery: InboxDelivery) -> None:
        """A message whose replicas died, each time that it was delivered."""
        deaths = delivery.entry.deliveries - 1
        reason = f"the replica that handled it died, {deaths} times"
        if delivery.entry.channel is None:
            self._intake.refuse_unhandled(delivery.entry.data, Code.WORKER_DIED, reason)
        self._settlement.bury(delivery, reason, deaths)

    def _age_s(self, entry: Entry) -> float:
        clock_ms = self._group.clock_ms
        if clock_ms is None:
            return 0.0
        return max(0.0, (clock_ms + monotonic() * 1000 - entry.stored_ms) / 1000)

    def _create(self, deadline: Deadline) -> None:
        self._group.create(deadline)
        announce(self._link, deadline, self._service, self._mode)

    def _restore(self) -> None:
        """The server has lost the inbox, or somebody removed it: begin anew, with what is there."""
        self._incidents.report(
            "inbox_lost", "the inbox or its group was not there any more, and is made anew"
        )
        try:
            self._create(Deadline.after(ANSWER_S))
        except DaebusError as error:
            self._incidents.report("inbox_error", f"no inbox: {describe(error)}")
            self._stopping.wait(PAUSE_S)

    # --- the thread that says that this replica lives ---

    def _renew(self) -> None:
        cleaned_at_s = monotonic()
        forget_after_ms = int(self._settings.lease_s * 1000 * FORGET_AFTER_LEASES)
        while not self._ended.wait(self._beat_s):
            if not self._link.is_up:
                continue
            try:
                self._group.renew(self._holdings.ids(), self._lose)
                self._group.read_clock()
                self._settlement.retry()
                if monotonic() - cleaned_at_s > self._settings.lease_s:
                    cleaned_at_s = monotonic()
                    self._group.clean_up(forget_after_ms)
            except Exception as error:  # noqa: BLE001 - the next beat may succeed, and must come
                log.warning("no renewal: %s", describe(error), extra={"event": "inbox.error"})

    def _lose(self, ids: list[bytes]) -> None:
        if count := self._holdings.lose(ids):
            self._incidents.report(
                "taken_over",
                f"{count} messages in hand were taken over by another replica: this one gave no "
                f"sign of life for {self._settings.lease_s:g} s",
                count,
            )


def mode_of(settings: ServiceSettings, routes: Routes, level: str = durability.MEMORY) -> Mode:
    """What senders have to know of a service."""
    return Mode(
        delivery=settings.delivery,
        max_inbox=settings.max_inbox,
        window_ms=max(1, int(settings.deduplication_s * 1000)),
        durability=level,
        channels=tuple(sorted(routes.durable)),
    )
