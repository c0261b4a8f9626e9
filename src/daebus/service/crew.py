"""The crew of a service: its worker processes, and the messages that are with them.

A worker asks about each message that it takes from the queue. This side knows them all, and is the
one that decides: whether a message is handled, for how long, and when it is given up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from daebus.deadline import Deadline
from daebus.errors import BadMessage, Code, RegistrationError
from daebus.logs import Incidents, get_logger
from daebus.service.configuration import ServiceSettings
from daebus.service.exchange import Exchange
from daebus.service.handling import refuse
from daebus.service.idempotency import Idempotency
from daebus.service.parcels import open_parcel, unpack
from daebus.service.response import Outlet
from daebus.service.routes import Place, Routes
from daebus.service.tally import Tally
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
from daebus.service.worker_task import Task
from turbo_queue import FolderFailed, Queue
from turbo_queue.errors import WorkerFailed
from turbo_queue.worker import Worker
from turbo_queue.workers import WorkerGroup

log = get_logger(__name__)

#: Messages in the queue for each worker, the one that it handles counted: enough that it need not
#: wait for the next, few enough that an overload waits where its policy is (memory, or the spill).
WINDOW = 3

#: How often a start that waits for its workers looks whether it is still wanted, in seconds.
START_LOOK_S = 0.1


class Crew:
    """Worker processes that take messages from a queue on disk. It is the `Watcher` of them.

    Attributes:
        tasks: the messages that are in the queue; once it has stopped, those that are left there.
        is_cut: whether a stop leaves what is not finished by now.
        tally: what the processes have handled.

    Args:
        settings: how many processes, and their limits.
        routes: the service's handlers, as messages find them.
        outlet: where answers to messages of an earlier run leave.
        idempotency: told of requests with a key whose workers are killed, and cannot say it.
        incidents: where what goes wrong is counted.
        hand_over: takes a message whose handler does not run in processes any more, if it can.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        routes: Routes,
        outlet: Outlet,
        *,
        idempotency: Idempotency,
        incidents: Incidents,
        hand_over: Callable[[Exchange], bool],
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._outlet = outlet
        self._idempotency = idempotency
        self._incidents = incidents
        self._hand_over = hand_over
        self._room = WINDOW * settings.processes
        #: Guards what follows.
        self._changed = threading.Condition()
        self.tasks: dict[str, Task] = {}
        #: The messages of earlier runs that this one knows, or has done with.
        self._adopted: set[str] = set()
        #: Messages that are not tried again, and why; the next worker that has one buries it.
        self._given_up: dict[str, str] = {}
        #: Workers that were killed, and why.
        self._killed: dict[Worker, str] = {}
        self._handled: dict[Worker, int] = {}
        self.is_cut = False
        self.tally = Tally()
        self._queue: Queue
        self._group: WorkerGroup | None = None

    def start(self, setup: Setup, is_wanted: Callable[[], bool]) -> None:
        """Start the processes, and wait until each is ready for its first message.

        Args:
            setup: what they need to know.
            is_wanted: tells whether nobody has asked to stop.

        Raises:
            RegistrationError: a process ends before it is ready.
        """
        settings = self._settings
        self._queue = setup.queue
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
            while is_wanted() and not group.wait_until_ready(START_LOOK_S):
                pass
        except WorkerFailed as error:
            raise RegistrationError(
                f"service {setup.service!r} has handlers with workers='process', but {error}. The "
                f"log above has what it said; with start_method={settings.start_method!r} a "
                f"program runs its app below if __name__ == '__main__'"
            ) from error

    @property
    def is_started(self) -> bool:
        """Whether there are processes, or were until it was stopped."""
        return self._group is not None

    def stop(self, deadline: Deadline) -> None:
        """Let the processes finish what is in the queue, and end them."""
        with self._changed:
            self._changed.wait_for(lambda: not self.tasks, deadline.remaining_s())
            self.is_cut = True
            self._changed.notify_all()
        if self._group is not None:
            self._group.request_stop()
            self._close_queue()
            self._group.join(deadline.remaining_s())

    def _close_queue(self) -> None:
        """Wake the workers that wait for a message, so that they see the stop."""
        try:
            self._queue.close()
        except FolderFailed as error:
            log.error("the workers end a little later: %s", error, extra={"event": "queue.error"})

    @property
    def in_progress(self) -> int:
        """How many messages the workers have in hand."""
        with self._changed:
            return sum(task.worker is not None for task in self.tasks.values())

    @property
    def waiting(self) -> int:
        """How many are in the queue beside those."""
        with self._changed:
            return sum(task.worker is None for task in self.tasks.values())

    # --- what goes into the queue: the thread that puts it there ---

    def add(self, key: str, exchange: Exchange) -> bool:
        """Know a message before it goes into the queue, once there is room; False after a cut.

        A worker may have it as soon as it is there.
        """
        self._watch_key(exchange)
        with self._changed:
            while not self.is_cut and len(self.tasks) >= self._room:
                self._changed.wait()
            if self.is_cut:
                return False
            self.tasks[key] = Task(key, exchange, 0)
            return True

    def forget(self, key: str) -> Task | None:
        """Know a message no more; None if it is not known."""
        with self._changed:
            task = self.tasks.pop(key, None)
            self._changed.notify_all()
        return task

    def wait_for_cut(self, timeout_s: float) -> None:
        """Wait for so long, or until a stop leaves what is not finished."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_cut, timeout_s)

    def cancel(self, request_id: str | int | None) -> None:
        """End a request. One that waits for a worker is not started."""
        with self._changed:
            found = [
                task
                for task in self.tasks.values()
                if task.exchange.request.request_id == request_id
            ]
        for task in found:
            self._end(task, Code.CANCELLED, "the caller cancelled it")

    def refuse(self, exchange: Exchange, code: str, text: str, failure: str | None = None) -> None:
        """Answer a message that no worker will, and be done with it.

        Args:
            exchange: the message.
            code: what its caller is told.
            text: … in words.
            failure: why it is to be tried again by whoever delivered it.
        """
        self._count(exchange, is_error=True)
        refuse(exchange, code, text)
        exchange.finish(failure)

    def _watch_key(self, exchange: Exchange) -> None:
        """Let the repeats of a request hear of its end also when that comes from here."""
        if exchange.request.idempotency_key is not None:
            self._idempotency.keep(exchange, has_begun=True)

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
            task = self.tasks.get(note.key)
            if task is None:
                return DROP
            task.worker = worker
            worker.limit_at = task.limit_at()
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
            task = self.tasks[key] = Task(key, exchange, failures)
        if failures >= self._settings.max_attempts:
            self._give_up(task)

    def _on_finished(self, worker: Worker, note: Finished) -> None:
        worker.limit_at = None
        self._given_up.pop(note.key, None)
        task = self.forget(note.key)
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
        if task.patience_s() == 0:
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
            is_expected = self.is_cut or worker.is_leaving
            if task is not None and not self.is_cut:
                task.worker = None
                task.deaths += 1
                task.how = how
        if not is_expected or task is not None:
            _log_end(worker, how, reason, task)
        if self.is_cut:
            return
        if task is not None and task.deaths >= self._settings.max_attempts:
            self._give_up(task)
        try:
            self._queue.recover()
        except FolderFailed as error:
            # The other workers look by themselves, a little later.
            log.error("a message is not back in the queue yet: %s", error)

    # --- what becomes of a message ---

    def _end(self, task: Task, code: str, text: str, failure: str | None = None) -> None:
        """Answer a message and forget it; the worker that has it is killed."""
        with self._changed:
            if self.tasks.pop(task.key, None) is None:
                return
            worker = task.worker
            if worker is not None:
                self._killed[worker] = text
                worker.kill()
            self._changed.notify_all()
        self.refuse(task.exchange, code, text, failure)

    def _give_up(self, task: Task) -> None:
        """The workers die of it: tell the caller, and have it buried by the next worker."""
        exchange, text = task.exchange, task.deaths_in_words()
        delivery = exchange.delivery
        with self._changed:
            if self.tasks.pop(task.key, None) is None:
                return
            if delivery is None or not delivery.is_stored:
                self._given_up[task.key] = text
            self._changed.notify_all()
        self._count(exchange, is_error=True)
        self._incidents.report("worker_died", text)
        refuse(exchange, Code.WORKER_DIED, text)
        if delivery is not None:
            delivery.refused(text)  # Its dead letter is where it was stored.

    def _task_of(self, worker: Worker) -> Task | None:
        with self._changed:
            return next((task for task in self.tasks.values() if task.worker is worker), None)

    def _count(self, exchange: Exchange, *, is_error: bool) -> None:
        with self._changed:
            self.tally.add(exchange, is_error=is_error)


def _log_end(worker: Worker, how: str, reason: str | None, task: Task | None) -> None:
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
