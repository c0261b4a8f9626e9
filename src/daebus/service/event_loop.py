"""The event loop beside the threads, on which `async def` handlers run side by side."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable

from daebus.deadline import Deadline
from daebus.service.exchange import Exchange
from daebus.service.handling import Handling
from daebus.service.tally import Tally

#: How often the handlers are looked through for those whose callers have given up, in seconds.
SWEEP_S = 0.1

#: How long a cancelled handler may take to end, and the loop beyond that to say so, in seconds.
#: With the service's last words it must stay below the second that a stop may take too long.
CANCEL_S = 0.2
SAY_S = 0.1


class EventLoop:
    """One event loop in a thread of its own.

    Args:
        max_tasks: how many handlers may run at once.
        max_bytes: how many bytes of messages they may have together.
        handling: what is done with a message.
        enter: called once in the loop's thread.
    """

    def __init__(
        self, max_tasks: int, max_bytes: int, handling: Handling, enter: Callable[[], None]
    ) -> None:
        self._max_tasks = max_tasks
        self._max_bytes = max_bytes
        self._handling = handling
        self._enter = enter
        self._loop = asyncio.new_event_loop()
        self._incoming: deque[Exchange] = deque()
        #: Counted by whoever offers, and by the loop.
        self._offered_bytes = self._done_bytes = 0
        self._tasks: dict[asyncio.Task[None], Exchange] = {}
        self._is_sweeping = False
        self._context = contextvars.Context()
        self._tally = Tally()
        self._thread = threading.Thread(target=self._run, name="daebus-event-loop", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, exchange: Exchange) -> bool:
        """Start a task for a message; False when as many, or as large, as allowed are running."""
        count, size = len(self._tasks) + len(self._incoming), exchange.size_bytes
        in_hand = self._offered_bytes - self._done_bytes
        # One that is larger than all that is allowed shall be handled, too.
        if count >= self._max_tasks or (count and in_hand + size > self._max_bytes):
            return False
        self._offered_bytes += size
        self._incoming.append(exchange)
        if len(self._incoming) == 1:  # Else the loop has been woken already.
            self._loop.call_soon_threadsafe(self._start_tasks)
        return True

    @property
    def in_progress(self) -> int:
        """See `Runner`."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """See `Runner`: each message has a task at once, unless a handler blocks the loop."""
        return len(self._incoming)

    @property
    def spilled(self) -> int:
        """See `Runner`."""
        return 0

    def tallies(self) -> list[Tally]:
        """See `Runner`."""
        return [self._tally]

    def cancel(self, request_id: str) -> None:
        """See `Runner`."""
        try:
            self._loop.call_soon_threadsafe(self._mark_cancelled, request_id)
        except RuntimeError:
            pass  # The loop was closed meanwhile.

    def join(self, deadline: Deadline) -> list[Exchange]:
        """Let the handlers finish, cancel those that do not in time, and end; give those."""
        if not self._thread.is_alive():
            self._loop.close()
            return []
        finished = asyncio.run_coroutine_threadsafe(self._finish(deadline), self._loop)
        try:
            cut = finished.result(deadline.remaining_s() + CANCEL_S + SAY_S)
        except TimeoutError:  # A handler blocks the loop itself.
            cut = list(self._tasks.values())
            for exchange in cut:
                exchange.has_begun = True
            return cut + list(self._incoming)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CANCEL_S)
        if not self._thread.is_alive():
            self._loop.close()
        return cut

    def _run(self) -> None:
        self._enter()
        self._context = contextvars.copy_context()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _start_tasks(self) -> None:
        while self._incoming:
            exchange = self._incoming[0]
            task = self._loop.create_task(
                self._handling.run_async(exchange, self._tally), context=self._context.copy()
            )
            self._tasks[task] = exchange
            task.add_done_callback(self._has_ended)
            if not self._is_sweeping:
                self._is_sweeping = True
                self._loop.call_later(SWEEP_S, self._sweep)
            self._incoming.popleft()  # Last, so that `offer` wakes the loop again after this.

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        self._done_bytes += self._tasks.pop(task).size_bytes

    def _mark_cancelled(self, request_id: str) -> None:
        for exchange in self._tasks.values():
            if exchange.request.request_id == request_id:
                exchange.request.on_cancelled()
                # A turn later: a task that is cancelled before its first step answers nobody.
                self._loop.call_soon(self._cancel_unwanted)

    def _cancel_unwanted(self) -> None:
        """Cancel the handlers whose results nobody wants; once, so that each may clean up."""
        for task, exchange in self._tasks.items():
            if exchange.request.is_cancelled and not task.cancelling():
                task.cancel()

    def _sweep(self) -> None:
        """Look for deadlines that have passed: a timer for each message would cost each one."""
        self._cancel_unwanted()
        self._is_sweeping = bool(self._tasks)
        if self._is_sweeping:
            self._loop.call_later(SWEEP_S, self._sweep)

    async def _finish(self, deadline: Deadline) -> list[Exchange]:
        self._start_tasks()
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=deadline.remaining_s())
        cut = [self._tasks[task] for task in tasks if not task.done()]
        for exchange in cut:
            exchange.has_begun = True
        for task in tasks:
            task.cancel()
        if cut:
            await asyncio.wait(tasks, timeout=CANCEL_S)
        return cut
