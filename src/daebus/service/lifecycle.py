"""A running service: its parts, started in order and stopped in an order of its own."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from typing import Any

from daebus.bus import checkup, shared
from daebus.bus.mode import announce
from daebus.deadline import Deadline
from daebus.errors import DaebusError, ServerUnavailable
from daebus.logs import describe, get_logger
from daebus.service.assembly import Assembly
from daebus.service.configuration import ServiceSettings
from daebus.service.exchange import Exchange
from daebus.service.handling import cut_off
from daebus.service.parameters import check_hook
from daebus.service.registry import Gap, Registry, where

log = get_logger(__name__)

#: How long a start may take to reach the server, in seconds.
START_S = 10.0

#: What the on_stop functions, and then the last replies, may take beyond the grace time (seconds).
#: With what cancelling async handlers takes it is less than the second that was promised.
LAST_WORDS_S = 0.3


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
        RegistrationError: a handler's parameters, a hook's or a schedule cannot be served.
    """

    def __init__(
        self,
        service: str,
        url: str,
        settings: ServiceSettings,
        registry: Registry,
        stopping: threading.Event,
    ) -> None:
        for name, hooks, given in (
            ("on_start", registry.on_start, 0),
            ("on_stop", registry.on_stop, 0),
            ("on_gap", registry.on_gap, 1),
            ("on_worker_start", registry.on_worker_start, 0),
        ):
            for hook in hooks:
                check_hook(hook, given, f"an {name} function")
        self._service = service
        self._url = url
        self._settings = settings
        self._registry = registry
        self._pid = os.getpid()
        #: Set by whoever asks to stop; also from a signal handler.
        self.stopping = stopping
        #: Set once the start is over, however it went.
        self._start_is_over = threading.Event()
        self._stop_lock = threading.Lock()
        self._is_stopped = False
        self._has_called_start_hooks = False
        self._cut: list[Exchange] = []

        self._parts = Assembly(
            service,
            url,
            settings,
            registry,
            stopping=stopping,
            enter=self._enter,
            on_gap=self._on_gap,
            drain=lambda: self.stop_soon("daebus.drain"),
        )
        #: What it is and has done.
        self.describe = self._parts.describe
        #: How it is.
        self.look = self._parts.health.look

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
            SettingsError: nothing can be kept on disk, though the settings demand it.
            Exception: what an `on_start` function raised.
        """
        try:
            self._start()
        finally:
            self._start_is_over.set()

    def _start(self) -> None:
        service = self._service
        # First what tells that it is not ready yet.
        self._parts.status.start()
        self._parts.probe_file.start()
        self._parts.link.start()
        self._parts.runners.open_left()
        deadline = Deadline.after(START_S)
        self._parts.link.ensure_up(deadline)
        for text in checkup.warnings(self._parts.link, deadline):
            log.warning("%s", text, extra={"event": "server.setting"})
        if not self._parts.mode.has_inbox:
            announce(self._parts.link, deadline, service, self._parts.mode)
            if (count := checkup.forgotten(self._parts.link, service, deadline)) > 0:
                log.warning(
                    "%d messages wait in the inbox of %r, which it has no more; handle them with "
                    "delivery='stream' once",
                    count,
                    service,
                    extra={"event": "inbox.forgotten"},
                )
        if checkup.subscribers(self._parts.link, service, deadline):
            log.info(
                "another replica serves %r: callers share their calls among them",
                service,
                extra={"event": "service.replica"},
            )
        self._parts.runners.start()
        self._has_called_start_hooks = True
        for hook in self._registry.on_start:
            contextvars.copy_context().run(self._call, hook)
        for source in self._parts.sources:
            source.start(deadline)
        self._parts.health.start()
        self._parts.heartbeat.start()
        self._parts.periodic.start()
        self._parts.threads.start()
        self._parts.probe_file.beat()
        log.info(
            "service %r is ready at %s: %d actions, %d listeners, %d workers",
            service,
            self._parts.link.address,
            len(self._registry.actions),
            len(self._registry.listeners),
            self._settings.max_workers,
            extra={"event": "service.ready"},
        )

    def stop_soon(self, who: str) -> None:
        """Stop in a thread of its own, for who must not wait for it.

        Args:
            who: asks for it, for the log.
        """
        if self.stopping.is_set():
            return  # Whoever asked first stops it; a stranger may ask thousands of times.
        self.stopping.set()
        log.info(
            "service %r is to stop: asked by %s", self._service, who, extra={"event": "stop.asked"}
        )
        threading.Thread(target=self._stop_by_itself, name="daebus-stop", daemon=True).start()

    def _stop_by_itself(self) -> None:
        self._start_is_over.wait()  # Parts that are being started cannot be stopped.
        try:
            self.stop()
        except Exception:
            # Nobody waits for it who could be told.
            log.exception("the service stopped with errors", extra={"event": "stop.error"})

    def stop(self) -> None:
        """Stop all parts; what is in progress may finish within the grace time.

        A second call, from another thread, waits for the first.

        Raises:
            ExceptionGroup: what went wrong in the steps; every step was taken.
        """
        self.stopping.set()
        if os.getpid() != self._pid:
            return  # A child of `fork`, such as a worker process: all parts are the parent's.
        # What is started behind a stop's back would never end. A start that hangs is left behind.
        self._start_is_over.wait(self._settings.grace_s)
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
            lambda _: self._parts.probe_file.beat(),
            # First nothing new comes in.
            *(source.stop for source in self._parts.sources),
            lambda _: self._parts.periodic.request_stop(),
            # What waits is handled while everything it may need still runs.
            self._drain,
            # Whoever is still cut off is told, before the connections close.
            lambda _: self._answer_cut(),
            *(source.close for source in self._parts.sources),
            lambda _: self._parts.handling.stop(),
            # The user's clean-up comes after the last handler.
            self._call_stop_hooks,
            lambda _: self._parts.heartbeat.stop(),
            lambda _: self._parts.incidents.flush(everything=True),
            # The connection last: replies leave over it.
            lambda _: self._flush_replies(),
            lambda _: self._parts.link.close(),
            # Another replica may have the folder from now on.
            lambda _: self._parts.spool.close(),
            # Until now it could be seen that it stops.
            lambda _: self._parts.probe_file.close(),
            self._parts.status.close,
        ]

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
        except BaseException:
            log.exception("an on_gap function failed", extra={"event": "hook.error"})

    # --- stopping ---

    def _drain(self, deadline: Deadline) -> None:
        self._cut = self._parts.runners.join(deadline)
        late = [f"background task {name!r}" for name in self._parts.periodic.join(deadline)]
        late += [f"thread {name!r}" for name in self._parts.threads.join(deadline)]
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
                except BaseException as error:  # noqa: BLE001 - `sys.exit` ends one, not the others
                    errors.append(RuntimeError(f"{where(hook)} raised {describe(error)}"))

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
        if self._parts.link.is_up:
            try:
                self._parts.link.ask(Deadline.after(LAST_WORDS_S), b"PING")
            except DaebusError as error:
                raise ServerUnavailable(
                    self._parts.link.address, f"the last replies may be lost: {error}"
                ) from error
