"""A running service: its parts, started in order and stopped in an order of its own."""

from __future__ import annotations

import contextvars
import functools
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from daebus.bus import checkup, shared
from daebus.bus.link import Link
from daebus.bus.mode import announce
from daebus.bus.presence import Replica
from daebus.deadline import Deadline
from daebus.errors import DaebusError, ServerUnavailable
from daebus.logs import Incidents, get_logger
from daebus.service.configuration import ServiceSettings
from daebus.service.exchange import Exchange
from daebus.service.handling import Handling, cut_off
from daebus.service.heartbeat import Heartbeat
from daebus.service.inbox import Inbox, mode_of
from daebus.service.intake import Intake, Offer
from daebus.service.periodic import Periodic
from daebus.service.registry import Gap, Registry
from daebus.service.response import Outlet
from daebus.service.routes import Routes
from daebus.service.runners import Runners
from daebus.service.sources import Source
from daebus.service.subscription import Subscription
from daebus.service.threads import Threads

log = get_logger(__name__)

#: How long a start may take to reach the server, in seconds.
START_S = 10.0

#: What a stop may take beyond the grace time, for the last replies and hooks, in seconds.
LAST_WORDS_S = 0.5


#: The service whose code runs in this thread.
_running: contextvars.ContextVar[Lifecycle | None] = contextvars.ContextVar(
    "daebus_running", default=None
)


class Lifecycle:
    """All parts of one run of a service.

    Args:
        service: the service's name.
        url: the server's address.
        settings: what it runs with.
        registry: its handlers.
        stopping: set by whoever asks to stop.

    Raises:
        RegistrationError: a handler's parameters or a schedule cannot be served.
    """

    def __init__(
        self,
        service: str,
        url: str,
        settings: ServiceSettings,
        registry: Registry,
        stopping: threading.Event,
    ) -> None:
        self._service = service
        self._url = url
        self._settings = settings
        self._registry = registry
        self._replica_id = uuid.uuid4().hex
        self._started_at = time.time()
        self.incidents = Incidents(log)
        #: Set by whoever asks to stop; also from a signal handler.
        self.stopping = stopping
        self._stop_lock = threading.Lock()
        self._is_stopped = False
        self._has_called_start_hooks = False
        self._cut: list[Exchange] = []

        self._routes = routes = Routes(registry)
        self._periodic = Periodic(list(registry.background.values()), self._enter)
        self._threads = Threads(
            list(registry.threads.values()),
            goes_on=self.is_running,
            stopping=self.stopping,
            enter=self._enter,
        )
        # Replies leave over the link that requests come on. The process's shared link has the reply
        # channel of its callers: a client that publishes to itself costs the server 16 KiB for each
        # message that waits (measured with Valkey 9.1), and is cut off when it lags a little.
        self._link = Link(url, shared.connection_name(service))
        outlet = Outlet(self._link, settings.max_message_bytes)
        self._handling = Handling(self.incidents)
        self._runners = Runners(settings, routes, self._handling, self._enter)
        intakes = functools.partial(
            Intake,
            service,
            routes,
            outlet=outlet,
            incidents=self.incidents,
            max_message_bytes=settings.max_message_bytes,
        )
        self._mode = mode_of(settings, routes)
        offer: Offer = self._runners.offer
        if self._mode.has_inbox:
            offer = _one_at_a_time(offer)
        self._subscription = Subscription(
            self._link,
            service,
            self._replica_id,
            routes,
            intake=intakes(offer=offer),
            incidents=self.incidents,
            on_gap=self._on_gap,
            takes_requests=settings.delivery == "pubsub",
        )
        self._sources: list[Source] = [self._subscription]
        if self._mode.has_inbox:
            self._sources.append(
                Inbox(
                    self._link,
                    service,
                    self._replica_id,
                    settings,
                    routes,
                    make_intake=lambda offer: intakes(offer=offer),
                    offer=offer,
                    incidents=self.incidents,
                )
            )
        self._heartbeat = Heartbeat(self._link, self.describe, self.incidents)

    def is_running(self) -> bool:
        """Whether nobody has asked to stop."""
        return not self.stopping.is_set()

    def owns_current_thread(self) -> bool:
        """Whether the current thread runs the user's code for this service."""
        return _running.get() is self

    def start(self) -> None:
        """Start the parts: those that answer before those that take.

        Raises:
            ServerUnavailable: the server cannot be reached, or refuses to subscribe.
            Exception: what an `on_start` function raised.
        """
        service = self._service
        deadline = Deadline.after(START_S)
        self._link.start()
        self._link.ensure_up(deadline)
        for text in checkup.warnings(self._link, deadline):
            log.warning("%s", text, extra={"event": "server.setting"})
        if not self._mode.has_inbox:
            announce(self._link, deadline, service, self._mode)
            if (count := checkup.forgotten(self._link, service, deadline)) > 0:
                log.warning(
                    "%d messages wait in the inbox of %r, which it has no more; handle them with "
                    "delivery='stream' once",
                    count,
                    service,
                    extra={"event": "inbox.forgotten"},
                )
        if checkup.subscribers(self._link, service, deadline):
            log.warning(
                "another replica serves %r: over Pub/Sub each of them handles every message",
                service,
                extra={"event": "service.replica"},
            )
        self._runners.start()
        self._has_called_start_hooks = True
        for hook in self._registry.on_start:
            contextvars.copy_context().run(self._call, hook)
        for source in self._sources:
            source.start(deadline)
        self._heartbeat.start()
        self._periodic.start()
        self._threads.start()
        log.info(
            "service %r is ready at %s: %d actions, %d listeners, %d workers",
            service,
            self._link.address,
            len(self._registry.actions),
            len(self._registry.listeners),
            self._settings.max_workers,
            extra={"event": "service.ready"},
        )

    def stop(self) -> None:
        """Stop all parts; what is in progress may finish within the grace time.

        A second call, from another thread, waits for the first.

        Raises:
            ExceptionGroup: what went wrong in the steps; every step was taken.
        """
        self.stopping.set()
        with self._stop_lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            deadline = Deadline.after(self._settings.grace_s)
            errors = []
            for step in self._stop_order():
                try:
                    step(deadline)
                except Exception as error:  # noqa: BLE001 - the other steps must be taken
                    errors.append(error)
            log.info("service %r has stopped", self._service, extra={"event": "stopped"})
        if errors:
            raise ExceptionGroup(f"service {self._service!r} stopped with errors", errors)

    def _stop_order(self) -> list[Callable[[Deadline], object]]:
        return [
            # First nothing new comes in.
            *(source.stop for source in self._sources),
            lambda _: self._periodic.request_stop(),
            # What waits is handled while everything it may need still runs.
            self._drain,
            # Whoever is still cut off is told, before the connections close.
            lambda _: self._answer_cut(),
            *(source.close for source in self._sources),
            lambda _: self._handling.stop(),
            # The user's clean-up comes after the last handler.
            self._call_stop_hooks,
            lambda _: self._heartbeat.stop(),
            lambda _: self.incidents.flush(everything=True),
            # The connection last: replies leave over it.
            lambda _: self._flush_replies(),
            lambda _: self._link.close(),
        ]

    def describe(self) -> Replica:
        """What this instance is and has done."""
        totals = [runner.totals() for runner in self._runners]
        return Replica(
            service=self._service,
            replica_id=self._replica_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("daebus"),
            started_at=self._started_at,
            actions=sorted(self._registry.actions),
            channels=sorted({listener.channel for listener in self._registry.listeners}),
            delivery=self._settings.delivery,
            max_workers=self._settings.max_workers,
            in_progress=sum(runner.in_progress for runner in self._runners),
            backlog=sum(runner.waiting for runner in self._runners),
            spilled=sum(runner.spilled for runner in self._runners),
            handled=sum(handled for handled, _ in totals),
            errors=sum(errors for _, errors in totals),
            gaps=self._subscription.gaps,
            incidents=self.incidents.counts(),
        )

    # --- starting ---

    def _enter(self) -> None:
        """Prepare a thread for the user's code."""
        _running.set(self)
        shared.home_url.set(self._url)
        shared.home_service.set(self._service)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._enter()
        function(*arguments)

    def _on_gap(self, gap: Gap) -> None:
        """Tell the user's functions, in a thread of their own: the reader must go on."""
        for hook in self._registry.on_gap:
            threading.Thread(
                target=self._call_gap_hook, args=(hook, gap), name="daebus-on-gap", daemon=True
            ).start()

    def _call_gap_hook(self, hook: Callable[..., Any], gap: Gap) -> None:
        try:
            self._call(hook, gap)
        except Exception:
            log.exception("an on_gap function failed", extra={"event": "hook.error"})

    # --- stopping ---

    def _drain(self, deadline: Deadline) -> None:
        self._cut = self._runners.join(deadline)
        late = [f"background task {name!r}" for name in self._periodic.join(deadline)]
        late += [f"thread {name!r}" for name in self._threads.join(deadline)]
        if late:
            log.warning(
                "still running after %.1f s and left behind: %s",
                self._settings.grace_s,
                ", ".join(late),
                extra={"event": "stop.late"},
            )

    def _answer_cut(self) -> None:
        for exchange in self._cut:
            cut_off(exchange)
        if self._cut:
            names = sorted({repr(exchange.route.name) for exchange in self._cut})
            log.warning(
                "%d messages were cut off after %.1f s; their callers were told, or another "
                "replica takes them: %s",
                len(self._cut),
                self._settings.grace_s,
                ", ".join(names),
                extra={"event": "stop.cut"},
            )

    def _call_stop_hooks(self, deadline: Deadline) -> None:
        """Call the user's functions in a thread, so that one that hangs cannot hold up the stop."""
        errors: list[Exception] = []

        def call_all() -> None:
            for hook in self._registry.on_stop:
                try:
                    self._call(hook)
                except Exception as error:  # noqa: BLE001 - told by the group below
                    errors.append(error)

        if not self._registry.on_stop or not self._has_called_start_hooks:
            return
        thread = threading.Thread(target=call_all, name="daebus-on-stop", daemon=True)
        thread.start()
        thread.join(max(LAST_WORDS_S, deadline.remaining_s()))
        if thread.is_alive():
            log.warning("an on_stop function did not end in time", extra={"event": "stop.late"})
        if errors:
            raise ExceptionGroup("on_stop functions failed", errors)

    def _flush_replies(self) -> None:
        """Wait until the server has taken all replies: it answers commands in their order."""
        if self._link.is_up:
            try:
                self._link.ask(Deadline.after(LAST_WORDS_S), b"PING")
            except DaebusError as error:
                raise ServerUnavailable(
                    self._link.address, f"the last replies may be lost: {error}"
                ) from error


def _one_at_a_time(offer: Offer) -> Offer:
    """For two sources, each with a thread of its own: runners take from one thread at a time."""
    lock = threading.Lock()

    def offer_alone(exchange: Exchange) -> bool:
        with lock:
            return offer(exchange)

    return offer_alone
