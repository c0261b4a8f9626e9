"""All parts of one run of a service, wired together: the one place that knows each of them."""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from importlib.metadata import version

from daebus.bus import checkup, shared
from daebus.bus.link import Link
from daebus.bus.presence import Replica
from daebus.deadline import Deadline
from daebus.logs import Incidents, get_logger
from daebus.messages import WIRE_VERSION
from daebus.service.built_in import BuiltIn
from daebus.service.cluster_tasks import ClusterTasks
from daebus.service.configuration import ServiceSettings
from daebus.service.contract import contract_of
from daebus.service.control import Cancellations, Control
from daebus.service.exchange import Exchange
from daebus.service.handling import Handling
from daebus.service.health import Health
from daebus.service.heartbeat import Heartbeat
from daebus.service.idempotency import Idempotency
from daebus.service.inbox import Inbox, mode_of
from daebus.service.intake import Intake, Offer
from daebus.service.periodic import Periodic
from daebus.service.probe_file import ProbeFile
from daebus.service.processes import Processes
from daebus.service.registry import Gap, Registry
from daebus.service.response import Outlet
from daebus.service.routes import Place, Routes, traced
from daebus.service.runner import Runner
from daebus.service.runners import Runners
from daebus.service.sources import Source
from daebus.service.spool import Spool
from daebus.service.status import Status
from daebus.service.subscription import Subscription
from daebus.service.tally import Tally, figures_of, handled
from daebus.service.threads import Threads

log = get_logger(__name__)

#: How long the server may take to tell how many messages it has, in seconds.
STORED_S = 1.0


class Assembly:
    """The parts of a service. Nothing is started here.

    Args:
        service: the service's name.
        url: the server's address.
        settings: what it runs with.
        registry: its handlers.
        stopping: set by whoever asks to stop.
        enter: prepares a thread for the user's code.
        on_gap: told when messages may have been missed.
        drain: stops the service; must not block.

    Raises:
        RegistrationError: a handler's parameters or a schedule cannot be served.
    """

    def __init__(
        self,
        service: str,
        url: str,
        settings: ServiceSettings,
        registry: Registry,
        *,
        stopping: threading.Event,
        enter: Callable[[], None],
        on_gap: Callable[[Gap], None],
        drain: Callable[[], None],
    ) -> None:
        self._service = service
        self._settings = settings
        self._registry = registry
        self._replica_id = replica_id = uuid.uuid4().hex
        self._started_at = time.time()
        self._version = version("daebus")  # It is read from a file.
        self.incidents = incidents = Incidents(log)

        def is_running() -> bool:
            return not stopping.is_set()

        self.threads = Threads(
            list(registry.threads.values()),
            goes_on=is_running,
            stopping=stopping,
            enter=enter,
        )
        # Replies leave over the link that requests come on. The process's shared link has the reply
        # channel of its callers: a client that publishes to itself costs the server 16 KiB for each
        # message that waits (measured with Valkey 9.1), and is cut off when it lags a little.
        self.link = Link(url, shared.connection_name(service))
        built_in = BuiltIn(
            service,
            replica_id,
            self.link,
            describe=self.describe,
            contract=lambda: contract_of(service, settings.delivery, registry),
        )
        self._routes = routes = Routes(
            registry, built_in.functions(), traced(service, traces=settings.traces)
        )
        cluster = ClusterTasks(
            service,
            replica_id,
            settings.lease_s,
            link=self.link,
            incidents=incidents,
        )
        self.periodic = Periodic(list(registry.background.values()), enter, cluster)
        outlet = Outlet(self.link, settings.max_message_bytes)
        cancellations = Cancellations()
        idempotency = Idempotency(
            self.link,
            outlet,
            service,
            replica_id,
            is_stored=settings.delivery == "stream",
            window_s=settings.deduplication_s,
        )
        self.handling = Handling(incidents, cancellations, idempotency)

        def hand_over(exchange: Exchange) -> bool:
            return self.runners.hand_over(exchange)  # They are made with the processes.

        def make_processes() -> Processes:
            return Processes(
                service,
                url,
                replica_id,
                settings,
                registry=registry,
                routes=routes,
                outlet=outlet,
                cancellations=cancellations,
                idempotency=idempotency,
                incidents=incidents,
                spool=self.spool,
                is_wanted=is_running,
                hand_over=hand_over,
            )

        self.spool = Spool(settings.spool, service, url)
        self.runners = Runners(
            settings,
            routes,
            self.handling,
            enter,
            make_processes=make_processes,
            spool=self.spool,
            outlet=outlet,
            incidents=incidents,
        )
        intakes = functools.partial(
            Intake,
            service,
            routes,
            outlet=outlet,
            incidents=incidents,
            max_message_bytes=settings.max_message_bytes,
        )
        self.mode = mode_of(settings, routes)
        offer: Offer = self.runners.offer
        if self.mode.has_inbox:
            offer = _one_at_a_time(offer)
        self.subscription = Subscription(
            self.link,
            service,
            replica_id,
            routes,
            intake=intakes(offer=offer),
            on_control=Control(
                replica_id,
                drain,
                cancellations=cancellations,
                runners=self.runners,
                incidents=incidents,
                max_message_bytes=settings.max_message_bytes,
            ).take,
            incidents=incidents,
            on_gap=on_gap,
            takes_requests=settings.delivery == "pubsub",
        )
        # What waits on disk first: it is older.
        self.sources: list[Source] = [*self.runners.sources, self.subscription]
        self._inbox: Inbox | None = None
        if self.mode.has_inbox:
            self._inbox = Inbox(
                self.link,
                service,
                replica_id,
                settings,
                routes,
                make_intake=lambda offer: intakes(offer=offer),
                offer=offer,
                incidents=incidents,
            )
            self.sources.append(self._inbox)
        self.health = Health(
            self.link,
            self.subscription.private,
            incidents,
            progress=[functools.partial(_progress, runner) for runner in self.runners],
            is_stopping=stopping.is_set,
            is_inbox_read=self._is_inbox_read,
            max_stall_s=settings.max_stall_s,
        )
        self.probe_file = ProbeFile(settings.probe_file, self.health.look, incidents)
        self.heartbeat = Heartbeat(
            self.link,
            self.describe,
            incidents,
            [self.health.beat, self.probe_file.beat, self.subscription.look_for_others],
        )
        self.status = Status(settings, self.describe, self.health.look, self._stored)

    def describe(self) -> Replica:
        """What this instance is and has done."""
        figures, listened = figures_of(self._tallies())
        handlers = [*figures.values(), *listened.values()]
        vitals = self.health.look()
        return Replica(
            service=self._service,
            replica_id=self._replica_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=self._version,
            wire_version=WIRE_VERSION,
            started_at=self._started_at,
            actions=sorted(self._registry.actions),
            channels=sorted({listener.channel for listener in self._registry.listeners}),
            delivery=self._settings.delivery,
            max_workers=self._settings.max_workers,
            processes=self._settings.processes if Place.PROCESS in self._routes.places else 0,
            in_progress=sum(runner.in_progress for runner in self.runners),
            backlog=sum(runner.waiting for runner in self.runners),
            spilled=sum(runner.spilled for runner in self.runners),
            handled=sum(each.handled for each in handlers),
            errors=sum(each.errors for each in handlers),
            gaps=self.subscription.gaps,
            incidents=self.incidents.counts(),
            tasks=self.periodic.last_runs(),
            is_ready=vitals.is_ready,
            troubles=vitals.troubles,
            figures=figures,
            listened=listened,
        )

    def _tallies(self) -> list[Tally]:
        return [tally for runner in self.runners for tally in runner.tallies()]

    def _stored(self) -> tuple[int, int] | None:
        """How many messages are in the inbox and among the dead letters, if there is an inbox."""
        if self._inbox is None:
            return None
        return checkup.stored(self.link, self._service, Deadline.after(STORED_S))

    def _is_inbox_read(self) -> bool:
        return self._inbox is None or self._inbox.is_read()


def _progress(runner: Runner) -> tuple[int, int]:
    """See `Progress`."""
    return runner.waiting + runner.spilled, handled(runner.tallies())


def _one_at_a_time(offer: Offer) -> Offer:
    """For two sources, each with a thread of its own: runners take from one thread at a time."""
    lock = threading.Lock()

    def offer_alone(exchange: Exchange) -> bool:
        with lock:
            return offer(exchange)

    return offer_alone
