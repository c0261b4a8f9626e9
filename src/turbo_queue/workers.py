"""A group of worker processes: started, watched, replaced and stopped; none outlives its parent.

One thread of the parent watches all of them: a pipe to each, on which both ends send bytes, and
the end of each process. A worker that dies at work is replaced at once, one that dies before it is
ready only after a pause. What the bytes mean is the business of who uses the group.
"""

from __future__ import annotations

import logging
import multiprocessing
import selectors
import signal
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from turbo_queue import worker_ends
from turbo_queue.alarm import Alarm
from turbo_queue.errors import WorkerFailed
from turbo_queue.exits import AtExit
from turbo_queue.worker import HELLO_S, KILLED_S, Worker
from turbo_queue.worker_ends import FAILED, HELLO, MESSAGE, READY, run_worker

logger = logging.getLogger(__name__)

#: Pauses before a worker is started again that died before it had done anything, in seconds.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0

#: The longest wait for what its workers do, in seconds: the system takes no time that is too large.
LONGEST_WAIT_S = 86_400.0

#: The signals of a terminal's Ctrl-C and of systemd's stop. Both go to workers, too, for whom the
#: parent decides; so they are held back until a worker has said what to do with them.
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Watcher(Protocol):
    """What a group tells. Called by the thread that watches; must not block."""

    def on_message(self, worker: Worker, data: bytes) -> None:
        """A worker has sent something."""

    def on_overdue(self, worker: Worker) -> None:
        """The time limit that was set for a worker has passed."""

    def on_end(self, worker: Worker, how: str) -> None:
        """A worker has ended, and all that it had locked is free."""


class WorkerGroup:
    """Keeps a number of worker processes alive.

    Args:
        target: What a worker runs, called as `target(parent, *arguments)` with a `Parent`. It
            calls `parent.ready()`, and returns soon after `parent.stopping` is set.
        arguments: With `spawn` and `forkserver` these and `target` are pickled.
        count: How many workers.
        watcher: What it tells what.
        start_method: `fork`, `spawn` or `forkserver`; None for the program's own.
        name: What the processes are called.
    """

    def __init__(
        self,
        target: Callable[..., object],
        arguments: tuple[Any, ...] = (),
        *,
        count: int,
        watcher: Watcher,
        start_method: str | None = None,
        name: str = "worker",
    ) -> None:
        self._target = target
        self._arguments = arguments
        self.count = count
        self._watcher = watcher
        self._context: Any = multiprocessing.get_context(start_method)
        self.name = name
        self._workers: list[Worker] = []
        self._to_replace: list[Worker] = []
        self._is_stopping = False
        self._start_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._failure: str | None = None
        self._is_settled = threading.Event()
        self._alarm: Alarm | None = None
        self._thread = threading.Thread(
            target=self._watch, name=f"turbo-queue-{name}s", daemon=True
        )
        self._at_exit: AtExit | None = None

    def start(self) -> None:
        """Start the workers, and the thread that watches them.

        Raises:
            WorkerFailed: a process cannot be started.
            Exception: what pickling the target or the arguments raised.
        """
        # A process that just ends does not wait for its workers, and leaves none.
        self._at_exit = AtExit(self._kill_all)
        self._selector = selectors.DefaultSelector()
        self._alarm = Alarm()
        self._selector.register(self._alarm, selectors.EVENT_READ)
        try:
            for _ in range(self.count):
                self._start_one()
            self._thread.start()
        except BaseException as error:
            self._end_all()
            self._at_exit.cancel()
            if isinstance(error, OSError):
                raise WorkerFailed(f"no process can be started: {error}") from error
            raise

    def wait_until_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until all workers of the start are ready, or the group is stopped.

        Args:
            timeout_s: Seconds to wait at most; None: for ever.

        Returns:
            Whether it is so.

        Raises:
            WorkerFailed: one of them has ended instead.
        """
        is_settled = self._is_settled.wait(timeout_s)
        if self._failure is not None:
            raise WorkerFailed(self._failure)
        return is_settled

    @property
    def workers(self) -> list[Worker]:
        """Those that live now."""
        return list(self._workers)

    def replace(self, worker: Worker) -> None:
        """Have another worker take this one's place, once that one is ready. For `Watcher`s."""
        if worker not in self._to_replace and not worker.is_leaving:
            self._to_replace.append(worker)

    def request_stop(self) -> None:
        """Ask all workers to end once they have done what they do."""
        self._is_stopping = True
        if self._alarm is not None:
            self._alarm.ring()

    @property
    def is_running(self) -> bool:
        """Whether a worker may live."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Wait until all workers have ended; those that have not in time are killed."""
        self.request_stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._kill_all()
            self._thread.join(KILLED_S)
        if self._at_exit is not None:
            self._at_exit.cancel()
            self._at_exit = None

    # --- the thread that watches, and the start before it ---

    def _start_one(self) -> None:
        with worker_ends.starting() as (pipe, lifeline, theirs):
            process = self._context.Process(
                target=run_worker, args=(*theirs, self._target, self._arguments), name=self.name
            )
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        worker = Worker(process, pipe, lifeline)
        self._workers.append(worker)
        self._selector.register(pipe, selectors.EVENT_READ, worker)
        self._selector.register(process.sentinel, selectors.EVENT_READ, worker)

    def _watch(self) -> None:
        while self._workers or not self._is_stopping:
            for key, _ in self._selector.select(self._wait_s()):
                worker: Worker | None = key.data
                if worker is None:
                    self._silence()
                elif worker in self._workers:
                    self._look_at(worker, has_ended=key.fileobj is not worker.pipe)
            if self._is_stopping:
                self._ask_to_stop()
            else:
                self._complete()
            self._check_limits()
        self._end_all()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.silence()

    def _look_at(self, worker: Worker, *, has_ended: bool) -> None:
        """Take what a worker has sent, and all of it if it has ended."""
        try:
            if not has_ended:
                self._take(worker, worker.pipe.recv_bytes())
            while has_ended and worker.pipe.poll():
                self._take(worker, worker.pipe.recv_bytes())
        except (EOFError, OSError):
            has_ended = True
        else:
            if has_ended and self._context.get_start_method() == "forkserver":
                # Its pipe is open, so it is the server that has ended: systemd's stop goes to that,
                # too. The worker works on, and what is to be started has a new server.
                self._selector.unregister(worker.process.sentinel)
                worker.is_orphan = True
                return
        if has_ended:
            self._ended(worker)

    def _ask_to_stop(self) -> None:
        for worker in self._workers:
            if worker.is_leaving:
                continue
            worker.ask_to_stop()
            if not worker.is_ready:
                worker.kill()  # It has nothing to finish.

    def _take(self, worker: Worker, frame: bytes) -> None:
        kind, data = frame[:1], frame[1:]
        if kind == MESSAGE:
            worker.has_worked = True
            self._tell(self._watcher.on_message, worker, data)
        elif kind == HELLO:
            worker.limit_at = None
        elif kind == READY:
            worker.is_ready = True
            self._came_up()
        elif kind == FAILED:
            worker.last_words = data.decode(errors="replace")

    def _came_up(self) -> None:
        self._pause_s = FIRST_PAUSE_S
        if self._number_ready() >= self.count:
            self._is_settled.set()
        if self._number_ready() > self.count and self._to_replace:
            self._to_replace.pop(0).ask_to_stop()

    def _number_ready(self) -> int:
        return sum(worker.is_ready and not worker.is_leaving for worker in self._workers)

    def _ended(self, worker: Worker) -> None:
        self._selector.unregister(worker.pipe)
        if not worker.is_orphan:
            self._selector.unregister(worker.process.sentinel)
        how = worker.wait()
        self._workers = [one for one in self._workers if one is not worker]
        worker_ends.close(worker.pipe, worker.lifeline)
        self._to_replace = [one for one in self._to_replace if one is not worker]
        if not (worker.is_leaving or worker.is_ready):
            if self._is_settled.is_set():
                logger.error(
                    "worker process %d %s before it was ready; trying again in %.1f s",
                    worker.pid,
                    how,
                    self._pause_s,
                    extra={"event": "worker.failed"},
                )
            else:  # Whoever started the group is told.
                self._failure = f"a worker process {how} before it was ready"
                self._is_settled.set()
        if not (worker.is_leaving or worker.has_worked):
            self._pause()
        self._tell(self._watcher.on_end, worker, how)

    def _pause(self) -> None:
        self._start_at = monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _complete(self) -> None:
        """Start what is missing: one more than the number while one is to be replaced."""
        wanted = self.count + bool(self._to_replace)
        try:
            while self._number_staying() < wanted and monotonic() >= self._start_at:
                self._start_one()
        except Exception:
            # Out of processes or memory now; the others work on.
            logger.exception(
                "no worker process could be started; trying again in %.1f s",
                self._pause_s,
                extra={"event": "worker.failed"},
            )
            self._pause()

    def _number_staying(self) -> int:
        return sum(not worker.is_leaving for worker in self._workers)

    def _check_limits(self) -> None:
        now = monotonic()
        for worker in list(self._workers):
            if worker.limit_at is not None and now >= worker.limit_at:
                worker.limit_at = None
                if worker.is_ready:
                    self._tell(self._watcher.on_overdue, worker)
                else:
                    worker.last_words = f"it did not begin within {HELLO_S:g} s"
                    worker.kill()

    def _wait_s(self) -> float | None:
        """Seconds until something is due without anybody's doing."""
        moments = [worker.limit_at for worker in self._workers if worker.limit_at is not None]
        wanted = self.count + bool(self._to_replace)
        if not self._is_stopping and self._number_staying() < wanted:
            moments.append(self._start_at)
        return min(max(0.0, min(moments) - monotonic()), LONGEST_WAIT_S) if moments else None

    def _kill_all(self) -> None:
        for worker in list(self._workers):
            worker.kill()

    def _end_all(self) -> None:
        """Nothing runs any more, or shall."""
        for worker in self._workers:
            worker.kill()
            worker.wait()
            worker_ends.close(worker.pipe, worker.lifeline)
        self._workers.clear()
        self._is_settled.set()
        self._selector.close()
        if self._alarm is not None:
            self._alarm.close()

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception:
            # All workers would be without a watch.
            logger.exception("a watcher failed", extra={"event": "watcher.error"})
