"""The worker processes that handle messages: one of the runners.

A message waits in memory until the workers have little left, then goes through a turbo queue in
the replica's spool folder, where it outlives any of them. What becomes of it there is for the
`crew`.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from itertools import count

from daebus.deadline import Deadline
from daebus.errors import BadMessage, Code, RegistrationError
from daebus.logs import Incidents, get_logger, shown_level
from daebus.service.backlog import Backlog
from daebus.service.configuration import ServiceSettings
from daebus.service.control import Cancellations
from daebus.service.crew import Crew
from daebus.service.exchange import Exchange
from daebus.service.idempotency import Idempotency
from daebus.service.parcels import pack
from daebus.service.registry import Registry
from daebus.service.response import Outlet
from daebus.service.routes import Routes
from daebus.service.spool import Spool
from daebus.service.tally import Tally
from daebus.service.work_queue import open_queue, tidy
from daebus.service.worker_handlers import check_importable, for_workers
from daebus.service.worker_process import Setup
from turbo_queue import FolderFailed, Producer, Queue, QueueClosed, TurboQueueError

log = get_logger(__name__)

#: How soon a message is put again that the disk had no room for, in seconds.
RETRY_S = 0.5


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
        self._cancelled = cancellations.ids
        self._incidents = incidents
        self._spool = spool
        self._is_wanted = is_wanted
        self._crew = Crew(
            settings,
            routes,
            outlet,
            idempotency=idempotency,
            incidents=incidents,
            hand_over=hand_over,
        )
        self._backlog = Backlog(settings.max_backlog, settings.max_backlog_bytes)
        #: See `Runner`.
        self.offer = self._backlog.offer
        self._run = uuid.uuid4().hex[:12]
        self._numbers = count()
        self._left: list[Exchange] = []
        self._queue: Queue
        self._producer: Producer
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
        try:
            self._crew.start(setup, self._is_wanted)
        except RegistrationError:
            self._producer.close()
            raise
        self._feeder.start()

    def join(self, deadline: Deadline) -> list[Exchange]:
        """See `Runner`."""
        crew = self._crew
        if not crew.is_started:
            return []
        if self._feeder.is_alive():
            self._backlog.end(1)
            self._feeder.join(deadline.remaining_s())
        crew.stop(deadline)
        if self._feeder.is_alive():
            self._feeder.join()
        cut = [task.exchange for task in crew.tasks.values() if not _stays_in_queue(task.exchange)]
        for task in crew.tasks.values():
            task.exchange.has_begun = task.worker is not None or task.deaths > 0
        try:
            if crew.tasks:
                tidy(self._queue, self._producer, self._left_of)
            self._producer.close()
        except (TurboQueueError, BadMessage) as error:
            # The callers of all others must be told all the same.
            log.error("messages may be handled twice: %s", error, extra={"event": "queue.error"})
        return cut + self._left + self._backlog.take_rest()

    @property
    def in_progress(self) -> int:
        """See `Runner`."""
        return self._crew.in_progress

    @property
    def waiting(self) -> int:
        """See `Runner`."""
        return len(self._backlog) + self._crew.waiting

    @property
    def spilled(self) -> int:
        """See `Runner`."""
        return 0

    def tallies(self) -> list[Tally]:
        """See `Runner`."""
        return [self._crew.tally]

    def cancel(self, request_id: str) -> None:
        """See `Runner`."""
        self._crew.cancel(request_id)

    # --- from the backlog to the queue: the feeder's thread ---

    def _feed(self) -> None:
        exchanges, taken = self._backlog.takes()
        for exchange in exchanges:
            taken.value += exchange.size_bytes
            while not self._put(exchange):
                self._crew.wait_for_cut(RETRY_S)

    def _put(self, exchange: Exchange) -> bool:
        """Put a message into the queue once there is room; False when it is to be tried again."""
        key = f"{self._run}{next(self._numbers):x}"
        if not self._crew.add(key, exchange):
            self._left.append(exchange)
            return True
        # Now, when whoever cancels it finds it: while it waited in memory or on disk nobody did.
        if (request_id := exchange.request.request_id) in self._cancelled:
            self._crew.cancel(request_id)
            return True
        try:
            self._producer.put(pack(exchange, key))
        except TurboQueueError as error:
            return self._crew.forget(key) is None or self._refuse(exchange, error)
        return True

    def _refuse(self, exchange: Exchange, error: TurboQueueError) -> bool:
        """The queue does not take a message; False when it is to be tried again."""
        if self._crew.is_cut:
            return False  # It was closed meanwhile: the message is one of those that are left.
        text = f"it could not be handed to a worker process: {error}"
        self._incidents.report("not_handed_over", f"{exchange.route.name!r}: {text}")
        # A caller is told at once. What nobody waits for was accepted, and waits until the disk has
        # room; behind it the backlog fills up, and what that means is for its policy.
        if exchange.request.reply_to is None and isinstance(error, (FolderFailed, QueueClosed)):
            return False
        self._crew.refuse(exchange, Code.OVERLOADED, text, failure=text)
        return True

    def _left_of(self, key: str) -> list[bytes] | None:
        """What is to be in the queue instead of a message; None: what is there."""
        task = self._crew.tasks.get(key)
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
