"""Where handlers run: threads, an event loop, worker processes. Chosen here, for each handler."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from daebus.deadline import Deadline
from daebus.errors import SettingsError
from daebus.logs import Incidents, get_logger
from daebus.service.configuration import ServiceSettings
from daebus.service.event_loop import EventLoop
from daebus.service.exchange import Exchange
from daebus.service.handling import Handling
from daebus.service.overflow import Overflow
from daebus.service.parcels import unpack
from daebus.service.response import Outlet
from daebus.service.routes import Place, Routes
from daebus.service.runner import Runner
from daebus.service.sources import Source
from daebus.service.spill import Spill
from daebus.service.spool import Spool
from daebus.service.workers import Workers

log = get_logger(__name__)


class Runners:
    """The runners that a service's handlers need.

    Args:
        settings: their sizes and limits.
        routes: the handlers.
        handling: what is done with a message.
        enter: called once in each thread that runs the user's code.
        make_processes: makes the runner of worker processes.
        spool: where messages wait on disk.
        outlet: where the replies to these leave.
        incidents: where what goes wrong is counted.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        routes: Routes,
        handling: Handling,
        enter: Callable[[], None],
        *,
        make_processes: Callable[[], Runner],
        spool: Spool,
        outlet: Outlet,
        incidents: Incidents,
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._spool = spool
        self._outlet = outlet
        self._incidents = incidents
        self._by_place: dict[Place, Runner] = {Place.THREAD: Workers(settings, handling, enter)}
        if Place.LOOP in routes.places:
            self._by_place[Place.LOOP] = EventLoop(
                settings.max_backlog, settings.max_backlog_bytes, handling, enter
            )
        if Place.PROCESS in routes.places:
            self._by_place[Place.PROCESS] = make_processes()
        self._overflows: dict[Place, Overflow] = {}
        if settings.overflow == "spill":
            for place, runner in self._by_place.items():
                self._overflows[place] = self._overflow(place, runner)
            self._by_place.update(self._overflows)
        #: What brings back the messages that wait on disk.
        self.sources: list[Source] = [overflow.mover for overflow in self._overflows.values()]
        # The one place that nearly every service has costs no look-up.
        is_only = len(self._by_place) == 1
        self.offer = self._by_place[Place.THREAD].offer if is_only else self._offer

    def open_left(self) -> None:
        """Find what earlier runs have left on disk.

        Raises:
            SettingsError: nothing can be kept there, though the settings demand it.
        """
        if not (self._settings.must_spill or self._spool.exists()):
            return  # A service that never overflows makes no files.
        try:
            for overflow in self._overflows.values():
                overflow.open_left()
        except SettingsError as error:
            if self._settings.must_spill:
                raise SettingsError(f"overflow='spill' needs a folder: {error}") from error
            log.warning(
                "messages cannot wait on disk: %s. Name another folder with Daebus(spool=…) or "
                "DAEBUS_SPOOL",
                error,
                extra={"event": "spill_failed"},
            )

    def start(self) -> None:
        """Start all of them."""
        for runner in self:
            runner.start()

    def join(self, deadline: Deadline) -> list[Exchange]:
        """Finish what they have, and end; give what was not done in time."""
        left = [exchange for runner in self for exchange in runner.join(deadline)]
        for overflow in self._overflows.values():
            overflow.close()
        return left

    def hand_over(self, exchange: Exchange) -> bool:
        """Take a message that waited for another runner, before its handler was changed.

        False when it cannot wait on disk. Safe from any thread.
        """
        overflow = self._overflows.get(exchange.route.place)
        return overflow is not None and overflow.hand_over(exchange)

    def __iter__(self) -> Iterator[Runner]:
        return iter(self._by_place.values())

    def _offer(self, exchange: Exchange) -> bool:
        return self._by_place[exchange.route.place].offer(exchange)

    def _overflow(self, place: Place, runner: Runner) -> Overflow:
        # The threads, which every service has, also see to what waits for a runner that is gone.
        gone = [each for each in Place if each not in self._by_place and place is Place.THREAD]
        spill = Spill(
            self._spool,
            [each.name.lower() for each in (place, *gone)],
            lambda parcel, delivery: unpack(parcel, self._routes, self._outlet, delivery),
            self._incidents,
        )
        return Overflow(
            runner,
            place,
            spill,
            offer_first=runner.offer_patiently if isinstance(runner, Workers) else runner.offer,
            settings=self._settings,
            incidents=self._incidents,
            others=self._overflows,
        )
