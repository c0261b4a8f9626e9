"""The worker processes that handle messages: one of the runners.

A message waits in memory until the workers have little left, then goes through a turbo queue in
the replica's spool folder, where it outlives any of them. This process watches the workers and is
the one that decides: whether a message is handled, for how long, and when it is given up.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from itertools import count
from time import monotonic

from daebus.deadline import Deadline
from daebus.errors import BadMessage, Code, RegistrationError
from daebus.logs import Incidents, get_logger, shown_level
from daebus.service.backlog import Backlog
from daebus.service.configuration import ServiceSettings
from daebus.service.control import Cancellations
from daebus.service.exchange import Exchange
from daebus.service.handling import refuse
from daebus.service.idempotency import Idempotency
from daebus.service.parcels import open_parcel, pack, unpack
from daebus.service.registry import Registry
from daebus.service.response import Outlet
from daebus.service.routes import Place, Routes
from daebus.service.spool import Spool
from daebus.service.tally import Tally
from daebus.service.work_queue import open_queue, tidy
from daebus.service.worker_handlers import check_importable, for_workers
from daebus.service.worker_notes import (
    BURY,
    DROP,
    RUN,
    Finished,
    Handled,
    Incident,
    Started,
    read_note,
)
from daebus.service.worker_process import Setup, work
from turbo_queue import FolderFailed, Producer, Queue, QueueClosed, TurboQueueError
from turbo_queue.errors import WorkerFailed
from turbo_queue.worker import Worker
from turbo_queue.workers import WorkerGroup

log = get_logger(__name__)

#: Messages in the queue for each worker, the one that it handles counted: enough that it need not
#: wait for the next, few enough that an overload waits where its policy is (memory, or the spill).
WINDOW = 3

#: How soon a message is put again that the disk had no room for, in seconds.
RETRY_S = 0.5

#: How often a start that waits for its workers looks whether it is still wanted, in seconds.
START_LOOK_S = 0.1


class _Task:
    """A message that has gone into the queue, and is not finished."""

    __slots__ = ("deaths", "exchange", "how", "key", "worker")

    def __init__(self, key: str, exchange: Exchange, deaths: int) -> None:
        self.key = key
        self.exchange = exchange
        self.worker: Worker | None = None
        #: How often a worker has died of it, and how the last one ended.
        self.deaths = deaths
        self.how = ""


class Processes:
    """Worker processes that take messages from a queue on disk, which a backlog feeds.

    Args:
        service: the service's name.
        url: the server's address.
        replica_id: this replica.
        settings: how many processes, and their limits.
        registry: the service's handlers.
        routes: the same, as messages find them.
        outlet: where answers to messages of an earlier run leave.
        cancellations: the requests that are not to be started any more.
        idempotency: told of requests with a key whose workers are killed, and cannot say it.
        incidents: where what goes wrong is counted.
        spool: the replica's folder.
        is_wanted: tells whether nobody has asked to stop.
        hand_over: takes a message whose handler does not run in processes any more, if it can.
    """

    def __init__(
        self,
        service: str,
        url: str,
        replica_id: str,
        settings: ServiceSettings,
        *,
        registry: Registry,
        routes: Routes,
        outlet: Outlet,
        cancellations: Cancellations,
        idempotency: Idempotency,
        incidents: Incidents,
        spool: Spool,
        is_wanted: Callable[[], bool],
        hand_over: Callable[[Exchange], bool],
    ) -> None:
        self._service = service
        self._url = url
        self._replica_id = replica_id
        self._settings = settings
        self._registry = registry
        self._routes = routes
        self._outlet = outlet
        self._cancelled = cancellations.ids
        self._idempotency = idempotency
        self._incidents = incidents
        self._spool = spool
        self._is_wanted = is_wanted
        self._hand_over = hand_over
        self._backlog = Backlog(settings.max_backlog, settings.max_backlog_bytes)
        #: See `Runner`.
        self.offer = self._backlog.offer
        self._run = uuid.uuid4().hex[:12]
        self._numbers = count()
        #: Guards what follows.
        self._changed = threading.Condition()
        self._tasks: dict[str, _Task] = {}
        #: The messages of earlier runs that this one knows, or has done with.
        self._adopted: set[str] = set()
        #: Messages that are not tried again, and why; the next worker that has one buries it.
        self._given_up: dict[str, str] = {}
        #: Workers that were killed, and why.
        self._killed: dict[Worker, str] = {}
        self._handled: dict[Worker, int] = {}
        self._is_cut = False
        self._tally = Tally()
        self._left: list[Exchange] = []
        self._queue: Queue
        self._producer: Producer
        self._group: WorkerGroup | None = None
        self._feeder = threading.Thread(target=self._feed, name="daebus-feeder", daemon=True)

    def start(self) -> None:
        """Start the processes, and wait until each is ready for its first message.

        Raises:
            SettingsError: there is no folder for the queue.
            RegistrationError: a process cannot have the handlers, or ends before it is ready.
        """
        settings, registry = self._settings, for_workers(self._registry)
        if settings.start_method != "fork":
            check_importable(registry)
        self._queue, self._producer = open_queue(self._spool, settings.max_message_bytes)
        setup = Setup(
            self._service,
            self._url,
            self._replica_id,
            self._queue,
            self._run,
            settings.max_message_bytes,
            registry,
            shown_level(),
            measures=settings.max_process_bytes is not None,
            is_stored=settings.delivery == "stream",
            window_s=settings.deduplication_s,
            traces=settings.traces,
        )
        group = WorkerGroup(
            work,
            (setup,),
            count=settings.processes,
            watcher=self,
            start_method=settings.start_method,
            name="daebus-process",
        )
        try:
            group.start()
            self._group = group
            while self._is_wanted() and not group.wait_until_ready(START_LOOK_S):
                pass
        except WorkerFailed as error:
            self._producer.close()
            raise RegistrationError(
                f"service {self._service!r} has handlers with workers='process', but {error}. The "
                f"log above has what it said; with start_method={settings.start_method!r} a "
                f"program runs its app below if __name__ == '__main__'"
            ) from error
        self._feeder.start()

    def join(self, deadline: Deadline) -> list[Exchange]:
        """See `Runner`."""
        group = self._group
        if group is None:
            return []
        if self._feeder.is_alive():
            self._backlog.end(1)
            self._feeder.join(deadline.remaining_s())
        with self._changed:
            self._changed.wait_for(lambda: not self._tasks, deadline.remaining_s())
            self._is_cut = True
            self._changed.notify_all()
        group.request_stop()
        self._close_queue()
        group.join(deadline.remaining_s())
        if self._feeder.is_alive():
            self._feeder.join()
        cut = [task.exchange for task in self._tasks.values() if not _stays_in_queue(task.exchange)]
        for task in self._tasks.values():
            task.exchange.has_begun = task.worker is not None or task.deaths > 0
        try:
            if self._tasks:
                tidy(self._queue, self._producer, self._left_of)
            self._producer.close()
        except (TurboQueueError, BadMessage) as error:
            # The callers of all others must be told all the same.
            log.error("messages may be handled twice: %s", error, extra={"event": "queue.error"})
        return cut + self._left + self._backlog.take_rest()

    @property
    def in_progress(self) -> int:
        """See `Runner`."""
        with self._changed:
            return sum(task.worker is not None for task in self._tasks.values())

    @property
    def waiting(self) -> int:
        """See `Runner`."""
        with self._changed:
            tasks = sum(task.worker is None for task in self._tasks.values())
        return len(self._backlog) + tasks

    @property
    def spilled(self) -> int:
        """See `Runner`."""
        return 0

    def tallies(self) -> list[Tally]:
        """See `Runner`."""
        return [self._tally]

    def cancel(self, request_id: str) -> None:
        """See `Runner`. One that waits for a worker is not started."""
        with self._changed:
            found = [
                task
                for task in self._tasks.values()
                if task.exchange.request.request_id == request_id
            ]
        for task in found:
            self._end(task, Code.CANCELLED, "the caller cancelled it")

    # --- from the backlog to the queue: the feeder's thread ---

    def _feed(self) -> None:
        exchanges, taken = self._backlog.takes()
        for exchange in exchanges:
            taken.value += exchange.size_bytes
            while not self._put(exchange):
                with self._changed:
                    self._changed.wait_for(lambda: self._is_cut, RETRY_S)

    def _put(self, exchange: Exchange) -> bool:
        """Put a message into the queue once there is room; False when it is to be tried again."""
        key = f"{self._run}{next(self._numbers):x}"
        self._watch_key(exchange)
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._is_cut:
                self._left.append(exchange)
                return True
            # Before it is in the queue: a worker may have it at once.
            task = self._tasks[key] = _Task(key, exchange, 0)
        # Now, when whoever cancels it finds it: while it waited in memory or on disk nobody did.
        if exchange.request.request_id in self._cancelled:
            self._end(task, Code.CANCELLED, "the caller cancelled it")
            return True
        try:
            self._producer.put(pack(exchange, key))
        except TurboQueueError as error:
            return self._forget(key) is None or self._refuse(exchange, error)
        return True

    def _refuse(self, exchange: Exchange, error: TurboQueueError) -> bool:
        """The queue does not take a message; False when it is to be tried again."""
        if self._is_cut:
            return False  # It was closed meanwhile: the message is one of those that are left.
        text = f"it could not be handed to a worker process: {error}"
        self._incidents.report("not_handed_over", f"{exchange.route.name!r}: {text}")
        # A caller is told at once. What nobody waits for was accepted, and waits until the disk has
        # room; behind it the backlog fills up, and what that means is for its policy.
        if exchange.request.reply_to is None and isinstance(error, (FolderFailed, QueueClosed)):
            return False
        self._count(exchange, is_error=True)
        refuse(exchange, Code.OVERLOADED, text)
        exchange.finish(text)
        return True

    def _watch_key(self, exchange: Exchange) -> None:
        """Let the repeats of a request hear of its end also when that comes from here."""
        if exchange.request.idempotency_key is not None:
            self._idempotency.keep(exchange, has_begun=True)

    def _has_room(self) -> bool:
        return self._is_cut or len(self._tasks) < WINDOW * self._settings.processes

    # --- what the workers tell: the thread that watches them ---

    def on_message(self, worker: Worker, data: bytes) -> None:
        """See `Watcher`."""
        note = read_note(data)
        match note:
            case Started():
                worker.send(self._verdict(worker, note))
            case Finished():
                self._on_finished(worker, note)
            case Handled():
                worker.limit_at = None
            case Incident():
                self._incidents.report(note.kind, note.text, note.count)

    def _verdict(self, worker: Worker, note: Started) -> bytes:
        """What the worker shall do with the message that it has taken."""
        if note.parcel is not None:
            try:
                self._adopt(note.key, note.failures, note.parcel)
            except BadMessage as error:
                return BURY + error.reason.encode()
        with self._changed:
            reason = self._given_up.get(note.key)
            if reason is not None:
                return BURY + reason.encode()
            task = self._tasks.get(note.key)
            if task is None:
                return DROP
            task.worker = worker
            worker.limit_at = _limit_at(task.exchange)
            return RUN

    def _adopt(self, key: str, failures: int, data: bytes) -> None:
        """Know a message that an earlier run of the service left in the queue.

        Raises:
            BadMessage: the service has no such handler any more, or cannot read it.
        """
        parcel = open_parcel(data)
        if parcel.is_stored:
            return  # It comes again from where it is stored.
        with self._changed:
            if key in self._adopted:
                return  # What became of it is known, though its worker has died since.
            exchange = unpack(parcel, self._routes, self._outlet)
            self._adopted.add(key)
            if exchange.route.place is not Place.PROCESS:
                exchange.request.delivery_count += failures
                if not self._hand_over(exchange):
                    raise BadMessage(f"{exchange.route.name!r} does not run in processes any more")
                return
            self._watch_key(exchange)
            task = self._tasks[key] = _Task(key, exchange, failures)
        if failures >= self._settings.max_attempts:
            self._give_up(task)

    def _on_finished(self, worker: Worker, note: Finished) -> None:
        worker.limit_at = None
        self._given_up.pop(note.key, None)
        task = self._forget(note.key)
        if task is not None:
            self._count(task.exchange, is_error=note.is_error)
            task.exchange.finish(note.failure)
        self._replace_if_worn(worker, note.memory_bytes)

    def _replace_if_worn(self, worker: Worker, memory_bytes: int) -> None:
        handled = self._handled[worker] = self._handled.get(worker, 0) + 1
        most, most_bytes = self._settings.max_process_messages, self._settings.max_process_bytes
        is_worn = most is not None and handled >= most
        is_large = most_bytes is not None and memory_bytes > most_bytes
        if (is_worn or is_large) and self._group is not None:
            self._group.replace(worker)

    def on_overdue(self, worker: Worker) -> None:
        """See `Watcher`. A time limit or a deadline has passed."""
        task = self._task_of(worker)
        if task is None:
            return
        route = task.exchange.route
        if _callers_patience_s(task.exchange) == 0:
            self._incidents.report(
                "expired", f"the deadline of a request for {route.name!r} passed while it ran"
            )
            self._end(task, Code.EXPIRED, "the deadline passed while the handler was running")
        else:
            self._incidents.report(
                "handler_timeout",
                f"{route.name!r} ran longer than its limit of {route.timeout_s:g} s",
            )
            text = f"the handler ran longer than its {route.timeout_s:g} s"
            self._end(task, Code.HANDLER_TIMEOUT, text, failure=text)

    def on_end(self, worker: Worker, how: str) -> None:
        """See `Watcher`. What the worker had goes back into the queue, to be tried again or not."""
        self._handled.pop(worker, None)
        with self._changed:
            task, reason = self._task_of(worker), self._killed.pop(worker, None)
            is_expected = self._is_cut or worker.is_leaving
            if task is not None and not self._is_cut:
                task.worker = None
                task.deaths += 1
                task.how = how
        if not is_expected or task is not None:
            _log_end(worker, how, reason, task)
        if self._is_cut:
            return
        if task is not None and task.deaths >= self._settings.max_attempts:
            self._give_up(task)
        try:
            self._queue.recover()
        except FolderFailed as error:
            # The other workers look by themselves, a little later.
            log.error("a message is not back in the queue yet: %s", error)

    # --- what becomes of a message ---

    def _end(self, task: _Task, code: str, text: str, failure: str | None = None) -> None:
        """Answer a message and forget it; the worker that has it is killed."""
        with self._changed:
            if self._tasks.pop(task.key, None) is None:
                return
            worker = task.worker
            if worker is not None:
                self._killed[worker] = text
                worker.kill()
            self._changed.notify_all()
        self._count(task.exchange, is_error=True)
        refuse(task.exchange, code, text)
        task.exchange.finish(failure)

    def _give_up(self, task: _Task) -> None:
        """The workers die of it: tell the caller, and have it buried by the next worker."""
        exchange = task.exchange
        times = "once" if task.deaths == 1 else f"{task.deaths} times"
        how = f"; the last time it {task.how}" if task.how else ""
        text = f"the worker process of {exchange.route.name!r} died {times}{how}"
        delivery = exchange.delivery
        with self._changed:
            if self._tasks.pop(task.key, None) is None:
                return
            if delivery is None or not delivery.is_stored:
                self._given_up[task.key] = text
            self._changed.notify_all()
        self._count(exchange, is_error=True)
        self._incidents.report("worker_died", text)
        refuse(exchange, Code.WORKER_DIED, text)
        if delivery is not None:
            delivery.refused(text)  # Its dead letter is where it was stored.

    def _forget(self, key: str) -> _Task | None:
        with self._changed:
            task = self._tasks.pop(key, None)
            self._changed.notify_all()
        return task

    def _task_of(self, worker: Worker) -> _Task | None:
        with self._changed:
            return next((task for task in self._tasks.values() if task.worker is worker), None)

    def _count(self, exchange: Exchange, *, is_error: bool) -> None:
        with self._changed:
            self._tally.add(exchange, is_error=is_error)

    # --- the queue ---

    def _close_queue(self) -> None:
        """Wake the workers that wait for a message, so that they see the stop."""
        try:
            self._queue.close()
        except FolderFailed as error:
            log.error("the workers end a little later: %s", error, extra={"event": "queue.error"})

    def _left_of(self, key: str) -> list[bytes] | None:
        """What is to be in the queue instead of a message; None: what is there."""
        task = self._tasks.get(key)
        if task is None:
            return None  # Of an earlier run.
        exchange = task.exchange
        if not _stays_in_queue(exchange):
            return []
        # Anew: that its worker was killed now is not its failure. But it was delivered.
        exchange.request.delivery_count += exchange.has_begun
        return [pack(exchange, key)]


def _stays_in_queue(exchange: Exchange) -> bool:
    """Whether a message that a stop cuts off is handled from the queue at the next start.

    Others are told to their callers, or come again from where they are stored.
    """
    return exchange.request.reply_to is None and exchange.delivery is None


def _limit_at(exchange: Exchange) -> float | None:
    """When a handler that starts now has to be ended, on the monotonic clock."""
    if exchange.request.is_expired:
        return None  # The worker does not start it.
    limits = [exchange.route.timeout_s, _callers_patience_s(exchange)]
    found = [limit_s for limit_s in limits if limit_s is not None]
    return monotonic() + min(found) if found else None


def _callers_patience_s(exchange: Exchange) -> float | None:
    """Seconds until a handler that runs is of no use to its caller; None if that is not known.

    A caller of a stream waits as long again after each response, which only the worker knows of; it
    cancels the request when it gives up.
    """
    return None if exchange.request.is_stream else exchange.remaining_s()


def _log_end(worker: Worker, how: str, reason: str | None, task: _Task | None) -> None:
    if reason is not None:
        log.warning(
            "worker process %d was killed and is replaced: %s",
            worker.pid,
            reason,
            extra={"event": "worker.killed", "pid": worker.pid},
        )
        return
    log.error(
        "worker process %d died and is replaced: it %s, %s",
        worker.pid,
        how,
        "at no message" if task is None else f"in the handler of {task.exchange.route.name!r}",
        extra={"event": "worker.died", "pid": worker.pid},
    )
