"""Daebus: the app. It wires the parts together; what they do stands in their own modules."""

from __future__ import annotations

import logging
import os
import threading
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from daebus.bus.connection import check_url
from daebus.bus.presence import Replica
from daebus.bus.shared import resolve_url
from daebus.channels import check_service_name
from daebus.contracts import Contract
from daebus.errors import RegistrationError, SettingsError
from daebus.logs import get_logger, show_logs
from daebus.service.blueprint import Blueprint
from daebus.service.configuration import ServiceSettings
from daebus.service.context import current_request, current_response
from daebus.service.contract import contract_of
from daebus.service.health import Vitals
from daebus.service.lifecycle import Lifecycle
from daebus.service.registry import Registrar
from daebus.service.request import Request
from daebus.service.response import Response
from daebus.service.routes import Routes
from daebus.service.signals import stop_on_signals
from daebus.service.systemd import telling_systemd
from turbo_queue.systemd import Notifier

log = get_logger(__name__)

#: Whether a command imports the user's module here: an `app.run()` in it would never give it back.
only_imports: ContextVar[bool] = ContextVar("only_imports", default=False)


class Daebus(Registrar):
    """A service: handlers, and the server whose channels they serve.

    Each argument that is None is taken from the environment, else from the default.

    Args:
        name: the app's name; also the service's, if `run` is given no other.
        max_workers: how many messages are handled at once in threads, 1 or more
            (`DAEBUS_MAX_WORKERS`, 10).
        url: the server's address, such as `redis://host:6379/0`, `rediss://…`, `unix://…` or
            `embedded://` (`DAEBUS_URL`, `redis://localhost:6379`).
        max_backlog: how many messages may wait in memory (`DAEBUS_MAX_BACKLOG`, 10,000).
        max_backlog_bytes: how many bytes of messages may wait there (`DAEBUS_MAX_BACKLOG_BYTES`,
            64 MiB).
        overflow: what happens to a message that finds no room in memory (`DAEBUS_OVERFLOW`).
            `"spill"`, the default: it waits on disk, and is handled in its turn. `"reject"`: its
            caller gets an `Overloaded` error at once, a published message is dropped and counted.
        spool: the folder for what waits on disk and for the work of processes (`DAEBUS_SPOOL`,
            `~/.local/state/daebus`, or systemd's `StateDirectory`).
        max_spill: how many messages may wait on disk (`DAEBUS_MAX_SPILL`, 10,000,000).
        max_spill_bytes: how many bytes of messages may wait there (`DAEBUS_MAX_SPILL_BYTES`,
            4 GiB).
        max_message_bytes: larger messages are refused (`DAEBUS_MAX_MESSAGE_BYTES`, 1 MiB).
        grace: seconds that what is in progress has to finish at a stop (`DAEBUS_GRACE`, 10.0).
        processes: how many worker processes run the handlers with `workers="process"`
            (`DAEBUS_PROCESSES`, the number of cores).
        start_method: how they are started: `"fork"`, `"spawn"` or `"forkserver"`
            (`DAEBUS_START_METHOD`, what `multiprocessing` uses).
        max_attempts: how often a message is tried whose worker process dies
            (`DAEBUS_MAX_ATTEMPTS`, 3).
        max_process_messages: a worker process is replaced after so many messages
            (`DAEBUS_MAX_PROCESS_MESSAGES`, never).
        max_process_bytes: … or when it has more memory than this (`DAEBUS_MAX_PROCESS_BYTES`).
        delivery: how requests arrive (`DAEBUS_DELIVERY`). `"pubsub"`, the default: at most once,
            nothing is stored. `"stream"`: at least once, from an inbox on the server that outlives
            a restart of any part and that all replicas share.
        durability: what the inbox must survive, or the service does not start: `"memory"` (a crash
            of any service), `"crash"` (… of the server, too), `"power"` (a loss of power), or
            `"replicas=N"` (stored by N replicas of the server); only told if None
            (`DAEBUS_DURABILITY`).
        prefetch: how many messages of the inbox a replica holds at once (`DAEBUS_PREFETCH`, 32 or
            `max_workers`, whichever is more).
        lease: seconds without a sign of life after which another replica takes over what one holds
            (`DAEBUS_LEASE`, 10.0).
        max_deliveries: how often a message of the inbox is delivered before it goes to the dead
            letters (`DAEBUS_MAX_DELIVERIES`, 5).
        max_inbox: how many messages the inbox may hold (`DAEBUS_MAX_INBOX`, 1,000,000).
        deduplication: seconds within which a message that is sent again is stored once, and a call
            with an `idempotency_key` gets its first answer again (`DAEBUS_DEDUPLICATION`, 300.0).
        max_stall: seconds for which messages may wait for threads, for the event loop or for
            processes while none of these finishes any, before the service calls itself neither
            ready nor alive (`DAEBUS_MAX_STALL`, 300.0).
        metrics_port: serve metrics for Prometheus and probes of its health at this port, 0 for any
            that is free (`DAEBUS_METRICS_PORT`); none if None.
        metrics_host: … at this address (`DAEBUS_METRICS_HOST`, 127.0.0.1).
        probe_file: a file that says how it is, for probes that run a command
            (`DAEBUS_PROBE_FILE`); none if None.
        traces: make a span of OpenTelemetry for each message that is handled (`DAEBUS_TRACES`,
            off).

    Raises:
        SettingsError: a value makes no sense, or traces are wanted and the package for them is not
            installed; the text says which.

    Example:
        >>> app = Daebus("calculator", max_workers=20)
        >>> @app.action("add")
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> app.run()
    """

    def __init__(
        self,
        name: str,
        max_workers: int | None = None,
        url: str | None = None,
        *,
        max_backlog: int | None = None,
        max_backlog_bytes: int | None = None,
        overflow: str | None = None,
        spool: str | os.PathLike[str] | None = None,
        max_spill: int | None = None,
        max_spill_bytes: int | None = None,
        max_message_bytes: int | None = None,
        grace: float | None = None,
        processes: int | None = None,
        start_method: str | None = None,
        max_attempts: int | None = None,
        max_process_messages: int | None = None,
        max_process_bytes: int | None = None,
        delivery: str | None = None,
        durability: str | None = None,
        prefetch: int | None = None,
        lease: float | None = None,
        max_deliveries: int | None = None,
        max_inbox: int | None = None,
        deduplication: float | None = None,
        max_stall: float | None = None,
        metrics_port: int | None = None,
        metrics_host: str | None = None,
        probe_file: str | os.PathLike[str] | None = None,
        traces: bool | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self._url = check_url(url) if url is not None else None
        self._settings = ServiceSettings.of(
            max_workers=max_workers,
            max_backlog=max_backlog,
            max_backlog_bytes=max_backlog_bytes,
            overflow=overflow,
            spool=spool,
            max_spill=max_spill,
            max_spill_bytes=max_spill_bytes,
            max_message_bytes=max_message_bytes,
            grace=grace,
            processes=processes,
            start_method=start_method,
            max_attempts=max_attempts,
            max_process_messages=max_process_messages,
            max_process_bytes=max_process_bytes,
            delivery=delivery,
            durability=durability,
            prefetch=prefetch,
            lease=lease,
            max_deliveries=max_deliveries,
            max_inbox=max_inbox,
            deduplication=deduplication,
            max_stall=max_stall,
            metrics_port=metrics_port,
            metrics_host=metrics_host,
            probe_file=probe_file,
            traces=traces,
        )
        self._blueprints: list[Blueprint] = []
        self._lifecycle: Lifecycle | None = None
        self._lock = threading.Lock()

    def register_blueprint(self, blueprint: Blueprint) -> None:
        """Take over all handlers of a blueprint; it takes no more handlers after that.

        Args:
            blueprint: the group of handlers.

        Raises:
            RegistrationError: two handlers have one name, or the app has the blueprint already;
                none is taken over then.
        """
        if any(each is blueprint for each in self._blueprints):
            # Its listeners, which need no names of their own, would hear each message twice.
            raise RegistrationError(
                f"the app {self.name!r} has the blueprint {blueprint.name!r} already"
            )
        self.registry.merge(blueprint.registry)
        self._blueprints.append(blueprint)
        blueprint.registry.closed_because = (
            f"the blueprint {blueprint.name!r} has been registered with the app {self.name!r}; "
            f"register the blueprint after its last handler"
        )

    def run(self, service: str | None = None, debug: bool = False) -> None:  # noqa: FBT001, FBT002
        """Serve until SIGINT, SIGTERM or `stop`, then finish what is in progress.

        Records are shown on stderr, unless the program has configured `logging` itself. systemd
        is told when the service is ready, how it gets on, that it lives, and that it stops.

        Args:
            service: the service's name, which is its channel; the app's name if None.
            debug: show each message's way in the log.

        Raises:
            ServerUnavailable: the server cannot be reached at the start.
            SettingsError: the service's name cannot be one, or a command imports the module.
            RegistrationError: a handler cannot be served.
        """
        if only_imports.get():
            raise SettingsError(
                "app.run() was called while the module was only imported, to find its app; put "
                "the call below a line 'if __name__ == \"__main__\":'"
            )
        show_logs(logging.DEBUG if debug else logging.INFO)
        stopping, start_is_over = threading.Event(), threading.Event()
        systemd = Notifier.from_environment()

        def request_stop() -> None:
            stopping.set()
            if not start_is_over.wait(self._settings.grace_s):
                # The main thread is held, which no other can end.
                log.error(
                    "an on_start function still runs %.1f s after the signal: ending at once",
                    self._settings.grace_s,
                    extra={"event": "stop.late"},
                )
                os._exit(1)

        with stop_on_signals(request_stop):
            try:
                lifecycle = self._start(service, self._url, self._settings, stopping)
            finally:
                start_is_over.set()
            systemd.ready()
            with telling_systemd(systemd, lifecycle.look, lifecycle.describe):
                lifecycle.stopping.wait()
                systemd.stopping()
                lifecycle.stop()

    def start(
        self,
        service: str | None = None,
        *,
        url: str | None = None,
        spool: str | os.PathLike[str] | None = None,
    ) -> None:
        """Serve in the background, until `stop`. For tests, and inside other programs.

        Args:
            service: the service's name; the app's name if None.
            url: the server's address, above that of the app.
            spool: the folder for what is kept on disk, above that of the app.

        Raises:
            ServerUnavailable: the server cannot be reached.
            SettingsError: the service's name cannot be one, or the app runs already.
            RegistrationError: a handler cannot be served.
        """
        settings = self._settings
        if spool is not None:
            settings = replace(settings, spool=Path(spool).absolute())
        url = check_url(url) if url is not None else self._url
        self._start(service, url, settings, threading.Event())

    def stop(self) -> None:
        """Stop: take nothing new, let what is in progress finish within the grace time.

        Returns when all is done; called by a handler it only asks for the stop, since that waits
        for the handler. May be called again.
        """
        lifecycle = self._lifecycle
        if lifecycle is None:
            return
        if lifecycle.owns_current_thread():
            lifecycle.stop_soon("its own code")
        else:
            lifecycle.stop()

    def is_running(self) -> bool:
        """Whether the service has been started and nobody has asked to stop it."""
        return self._lifecycle is not None and self._lifecycle.is_running()

    def stats(self) -> Replica:
        """What the running service is and has done: what `daebus ps` shows.

        Raises:
            SettingsError: it is not running.
        """
        if self._lifecycle is None:
            raise SettingsError(f"the app {self.name!r} is not running, so there are no figures")
        return self._lifecycle.describe()

    def contract(self, service: str | None = None) -> Contract:
        """What the service offers: its actions and channels, with their types. Needs no server.

        Args:
            service: the service's name; the app's name if None.

        Raises:
            SettingsError: the service's name cannot be one.
            RegistrationError: a handler cannot be served.

        Example:
            >>> [action.name for action in app.contract().actions]
            ['add']
        """
        Routes(self.registry)  # A handler that cannot be served is no part of a contract.
        name = check_service_name(service or self.name)
        return contract_of(name, self._settings.delivery, self.registry)

    def health(self) -> Vitals:
        """How the service is: whether it takes messages and gets on with them, and if not, why.

        Returns:
            Its vitals: `is_live` is False where a restart would help; `is_ready` is also False
            while it starts, stops, or does not hear its channels; `troubles` says why, a text for
            each reason.

        Example:
            >>> app.health().is_ready
            True
        """
        if self._lifecycle is None:
            return Vitals(is_live=True, is_ready=False, troubles=["it is not running"])
        return self._lifecycle.look()

    @property
    def request(self) -> Request:
        """The request that is being handled in this thread or task; like `daebus.request`.

        Raises:
            OutsideMessage: none is.
        """
        return current_request()

    @property
    def response(self) -> Response:
        """The response to it; like `daebus.response`.

        Raises:
            OutsideMessage: no request is being handled.
        """
        return current_response()

    def _start(
        self,
        service: str | None,
        url: str | None,
        settings: ServiceSettings,
        stopping: threading.Event,
    ) -> Lifecycle:
        with self._lock:
            if self.is_running():
                raise SettingsError(f"the app {self.name!r} runs already; stop it first")
            name = check_service_name(service or self.name)
            if name == "__main__":
                raise SettingsError(
                    "the service needs a name: app.run('my_service'), because the app's own name "
                    "is only '__main__'"
                )
            lifecycle = Lifecycle(name, resolve_url(url), settings, self.registry, stopping)
            self._lifecycle = lifecycle
            self.registry.closed_because = (
                f"the app {self.name!r} has been started; register handlers before that"
            )
        try:
            lifecycle.start()
        except BaseException:
            self.registry.closed_because = None
            lifecycle.stop()
            raise
        return lifecycle
