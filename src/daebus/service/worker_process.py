"""What a worker process does: it takes messages off the queue, and asks its parent about each.

The parent knows which messages are still wanted, how often their workers have died, and how long
they may run, so it decides; a worker handles a message and answers its caller over a link of its
own.
"""

from __future__ import annotations

import contextvars
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from daebus.bus import shared
from daebus.bus.commands import Receivers
from daebus.bus.link import Link
from daebus.errors import BadMessage, CallTimeout, ServerUnavailable
from daebus.logs import Incidents, describe, get_logger, show_logs
from daebus.service.handling import Handling
from daebus.service.idempotency import Idempotency
from daebus.service.parcels import Parcel, open_parcel, unpack
from daebus.service.registry import Registry
from daebus.service.response import Outlet
from daebus.service.routes import Routes, traced
from daebus.service.tally import Tally
from daebus.service.worker_notes import (
    BURY,
    DROP,
    RUN,
    Finished,
    Handled,
    Incident,
    Note,
    Started,
    write_note,
)
from turbo_queue import Batch, BatchDamaged, Consumer, FolderFailed, Queue
from turbo_queue.worker_ends import Parent

log = get_logger(__name__)

#: How often a worker looks whether the server is there again, in seconds.
LINK_LOOK_S = 0.05

#: How long a worker waits before it looks again at a folder that the system refuses, in seconds.
FOLDER_LOOK_S = 0.5

#: How long it waits for a message before it looks whether it is to end, in seconds. At a stop of
#: the service the queue wakes it; this is for a worker that is replaced.
STOP_LOOK_S = 0.5

#: A reply that the server has not taken after this time is told to the parent, in seconds: the
#: handler's time limit is not for that.
REPLY_S = 0.05


@dataclass(frozen=True)
class Setup:
    """What a worker process needs to know."""

    service: str
    url: str
    #: The replica whose worker it is.
    replica_id: str
    queue: Queue
    #: How the keys of this run's messages begin.
    run: str
    max_message_bytes: int
    #: The handlers of worker processes, without time limits.
    registry: Registry
    #: From which level on records are shown, if they are.
    log_level: int | None
    #: Whether the parent wants to know how much memory a worker has.
    measures: bool
    #: For idempotency keys: whether requests come from an inbox, and how long answers are kept.
    is_stored: bool
    window_s: float
    #: Whether handlers make spans.
    traces: bool


def work(parent: Parent, setup: Setup) -> None:
    """Handle messages until the parent asks to stop. Runs in the main thread of the process."""
    # As in a thread of the service, nothing of whoever started it is there.
    contextvars.Context().run(_work, parent, setup)


def _work(parent: Parent, setup: Setup) -> None:
    if setup.log_level is not None:
        show_logs(setup.log_level)
    shared.home_url.set(setup.url)
    shared.home_service.set(setup.service)
    for hook in setup.registry.on_worker_start:
        _call_hook(hook)
    link = Link(setup.url, shared.connection_name(setup.service))
    link.start()
    try:
        with setup.queue.consumer() as consumer:
            if _is_up(link, parent):
                parent.ready()
                _WorkerProcess(parent, setup, link, consumer).run()
    finally:
        link.close()
        if setup.traces:
            _flush_spans()


def _flush_spans() -> None:
    """A worker process ends without what a program does at its exit."""
    from turbo_queue.spans import flush  # noqa: PLC0415 - an extra

    flush()


def _call_hook(hook: Callable[..., object]) -> None:
    try:
        hook()
    except BaseException as error:
        name = getattr(hook, "__qualname__", repr(hook))
        raise RuntimeError(f"on_worker_start: {name} raised {describe(error)}") from error


def _is_up(link: Link, parent: Parent) -> bool:
    """Wait for the server; False if the worker is to end before that."""
    while not link.is_up:
        if parent.stopping.wait(LINK_LOOK_S):
            return False
    return True


class _WorkerProcess:
    """The loop of a worker process."""

    def __init__(self, parent: Parent, setup: Setup, link: Link, consumer: Consumer) -> None:
        self._parent = parent
        self._run = setup.run
        self._measures = setup.measures
        self._link = link
        self._consumer = consumer
        self._outlet = _Outlet(link, setup.max_message_bytes)
        self._routes = Routes(setup.registry, change=traced(setup.service, traces=setup.traces))
        idempotency = Idempotency(
            link,
            self._outlet,
            setup.service,
            setup.replica_id,
            is_stored=setup.is_stored,
            window_s=setup.window_s,
        )
        incidents = _ParentsIncidents(self._send)
        self._handling = Handling(incidents, idempotency=idempotency)
        self._tally = Tally()

    def run(self) -> None:
        """Handle messages until the parent asks to stop."""
        stopping = self._parent.stopping
        while not stopping.is_set() and _is_up(self._link, self._parent):
            try:
                batch = self._consumer.take(timeout=STOP_LOOK_S)
            except FolderFailed as error:
                log.error("no message can be taken: %s", error, extra={"event": "queue.error"})
                stopping.wait(FOLDER_LOOK_S)
                continue
            if batch is not None:
                self._take(batch)

    def _take(self, batch: Batch) -> None:
        try:
            for data in batch:
                self._ask_and_handle(batch, data)
        except (BadMessage, BatchDamaged) as error:
            batch.set_aside(describe(error))
        except FolderFailed as error:
            # The batch stays this process's; when that ends it is found to be finished.
            log.error("a message is not settled: %s", error, extra={"event": "queue.error"})

    def _ask_and_handle(self, batch: Batch, data: bytes) -> None:
        if self._parent.stopping.is_set():
            batch.give_back()
            return
        parcel = open_parcel(data)
        key = parcel.key or ""
        is_of_this_run = key.startswith(self._run)
        self._send(Started(key, batch.failures, None if is_of_this_run else data))
        verdict = self._parent.receive()
        if verdict == DROP:
            batch.acknowledge()
        elif verdict == RUN:
            self._handle(batch, key, parcel)
        else:
            batch.bury(verdict.removeprefix(BURY).decode())
            self._finish(key, is_error=True)

    def _handle(self, batch: Batch, key: str, parcel: Parcel) -> None:
        outcome = _Outcome(parcel, batch.failures + 1)
        exchange = unpack(parcel, self._routes, self._outlet, outcome)
        exchange.request.delivery_count = outcome.count
        errors = self._tally.errors
        self._handling.run(exchange, self._tally)
        self._await_reply(key)
        # In this order: if this process dies between the two, the parent has the message dropped.
        # The other way round it would wait for one that is gone.
        self._finish(key, is_error=self._tally.errors > errors, failure=outcome.failure)
        batch.acknowledge()

    def _await_reply(self, key: str) -> None:
        """Wait until the server has the replies: a message is done with only then."""
        last, self._outlet.last = self._outlet.last, None
        wait_s = REPLY_S
        while last is not None:
            try:
                last.wait(wait_s)
            except CallTimeout:
                if wait_s == REPLY_S:
                    self._send(Handled(key))
                wait_s = 1.0
            except ServerUnavailable as error:
                log.error("a reply was lost: %s", error, extra={"event": "reply.lost"})
                return
            else:
                return

    def _finish(self, key: str, *, is_error: bool, failure: str | None = None) -> None:
        self._send(Finished(key, is_error, failure, memory_bytes() if self._measures else 0))

    def _send(self, note: Note) -> None:
        self._parent.send(write_note(note))


class _Outcome:
    """Hears what becomes of the message that is being handled; see `Delivery`."""

    is_stored = False

    def __init__(self, parcel: Parcel, attempts: int) -> None:
        self.message_id = parcel.message_id or ""
        self.count = max(parcel.delivery_count, attempts)
        self.failure: str | None = None

    def finished(self, failure: str | None) -> None:
        """See `Delivery`."""
        self.failure = failure

    def refused(self, reason: str) -> None:
        """See `Delivery`."""
        self.failure = reason

    def given_back(self) -> None:
        """See `Delivery`. Only its parent stops a service."""


class _Outlet(Outlet):
    """Remembers what it sent last: once the server has that, it has all."""

    __slots__ = ("last",)

    def __init__(self, link: Link, max_bytes: int) -> None:
        super().__init__(link, max_bytes)
        self.last: Receivers | None = None

    def publish(self, channel: str, data: bytes) -> Receivers:
        """See `Outlet`."""
        self.last = receivers = super().publish(channel, data)
        return receivers


class _ParentsIncidents(Incidents):
    """Has the parent count and log what goes wrong, so that a burst in all workers is one."""

    def __init__(self, send: Callable[[Incident], None]) -> None:
        super().__init__(log)
        self._send = send

    def report(self, kind: str, text: str | Callable[[], str], count: int = 1) -> None:
        """See `Incidents`."""
        self._send(Incident(kind, text if isinstance(text, str) else text(), count))


def memory_bytes() -> int:
    """The memory that this process has resident now; its largest so far where that is not told."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
