"""The threads that handle messages: one of the runners."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import sleep

from daebus.deadline import Deadline
from daebus.errors import Code
from daebus.logs import get_logger
from daebus.service.backlog import Backlog
from daebus.service.configuration import ServiceSettings
from daebus.service.exchange import Exchange
from daebus.service.handling import Handling, refuse
from daebus.service.patience import Patience
from daebus.service.tally import Tally

log = get_logger(__name__)

#: Waits between attempts to start a thread when the system refuses one, in seconds.
FIRST_RETRY_S = 0.01
LONGEST_RETRY_S = 1.0


class Workers:
    """A fixed number of threads that take messages from the backlog.

    The threads are daemons of our own instead of a ThreadPoolExecutor, which joins its threads
    when the interpreter exits: one handler that never returns would keep the process for ever.

    Args:
        settings: how many threads, and how much may wait for them.
        handling: what they do with a message.
        enter: called once in each thread before it takes anything.
    """

    def __init__(
        self, settings: ServiceSettings, handling: Handling, enter: Callable[[], None]
    ) -> None:
        self._count = settings.max_workers
        self._backlog = Backlog(settings.max_backlog, settings.max_backlog_bytes)
        has_disk = settings.overflow == "spill"
        #: The same as `offer`, but it waits a moment for quick handlers. For the reader.
        self.offer_patiently = Patience(self._backlog, has_disk=has_disk).offer
        #: See `Runner`.
        self.offer = self._backlog.offer if has_disk else self.offer_patiently
        self._handling = handling
        self._enter = enter
        self._lock = threading.Lock()
        self._workers: dict[threading.Thread, _Worker] = {}
        self._tallies: list[Tally] = []
        self._is_stopping = False

    def start(self) -> None:
        """Start the threads."""
        for number in range(self._count):
            self._start_one(number)

    def join(self, deadline: Deadline) -> list[Exchange]:
        """Let the threads finish what waits, and end them; give what was not done in time.

        The first of these are still running, in threads that are left behind.
        """
        self._is_stopping = True
        with self._lock:
            workers = dict(self._workers)
        self._backlog.end(len(workers))
        for thread in workers:
            thread.join(deadline.remaining_s())
        running = [worker.exchange for worker in workers.values() if worker.exchange is not None]
        for exchange in running:
            exchange.has_begun = True
        rest = self._backlog.take_rest()
        self._backlog.end(len(workers))  # Those that are left behind end with their message.
        return running + rest

    @property
    def in_progress(self) -> int:
        """See `Runner`."""
        with self._lock:
            return sum(worker.exchange is not None for worker in self._workers.values())

    @property
    def waiting(self) -> int:
        """See `Runner`."""
        return len(self._backlog)

    @property
    def spilled(self) -> int:
        """See `Runner`."""
        return 0

    def cancel(self, request_id: str) -> None:
        """See `Runner`. A thread cannot be ended; a handler may look at `is_cancelled`."""
        with self._lock:
            exchanges = [worker.exchange for worker in self._workers.values()]
        for exchange in exchanges:
            if exchange is not None and exchange.request.request_id == request_id:
                exchange.request.on_cancelled()

    def tallies(self) -> list[Tally]:
        """See `Runner`."""
        with self._lock:
            return list(self._tallies)

    def _start_one(self, number: int) -> None:
        """Start a thread; try again while the system has none to give."""
        worker = _Worker(self._backlog, self._handling, self._enter)
        thread = threading.Thread(
            target=self._work, args=(worker, number), name=f"daebus-worker-{number}", daemon=True
        )
        with self._lock:
            self._workers[thread] = worker
            self._tallies.append(worker.tally)
        retry_s = FIRST_RETRY_S
        while True:
            try:
                thread.start()
            except RuntimeError as error:
                log.warning(
                    "no thread could be started (%s); trying again in %.2f s",
                    error,
                    retry_s,
                    extra={"event": "worker.retry"},
                )
                sleep(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            else:
                return

    def _work(self, worker: _Worker, number: int) -> None:
        try:
            worker.run()
        except BaseException:
            # Handlers cannot do this; an exception that was put into the thread from outside can.
            log.exception("a worker thread died and is replaced", extra={"event": "worker.died"})
            if (exchange := worker.exchange) is not None:
                refuse(exchange, Code.HANDLER_ERROR, "the worker thread died")
                exchange.finish("the worker thread died")
        finally:
            with self._lock:
                self._workers.pop(threading.current_thread(), None)
            if not self._is_stopping:
                self._start_one(number)


class _Worker:
    """What one thread does."""

    def __init__(self, backlog: Backlog, handling: Handling, enter: Callable[[], None]) -> None:
        self.tally = Tally()
        self.exchange: Exchange | None = None
        self._backlog = backlog
        self._handling = handling
        self._enter = enter

    def run(self) -> None:
        self._enter()
        exchanges, taken = self._backlog.takes()
        for exchange in exchanges:
            taken.value += exchange.size_bytes
            self.exchange = exchange
            self._handling.run(exchange, self.tally)
            self.exchange = None
