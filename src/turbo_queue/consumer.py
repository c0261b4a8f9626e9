"""A consumer: gives the events of ready batches, and looks after dead owners on the side."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from time import monotonic, sleep
from types import TracebackType
from typing import Any, NoReturn, Self

from turbo_queue.batch import Batch, Cursor
from turbo_queue.batch_file import BatchFormat
from turbo_queue.claims import Claims
from turbo_queue.codec import Decoder, codec_named
from turbo_queue.ends import open_end
from turbo_queue.errors import BatchDamaged, BatchSettled, FolderFailed, QueueClosed, QueueEmpty
from turbo_queue.exits import AtExit
from turbo_queue.folder import Folder
from turbo_queue.forks import Handle, watch
from turbo_queue.owners import CONSUMER
from turbo_queue.recovery import RECOVERY_EVERY_S, recover, recover_in_turn
from turbo_queue.settings import QueueSettings
from turbo_queue.states import State

logger = logging.getLogger(__name__)


class Consumer:
    """Takes events out of a queue. Made by `Queue.consumer()`.

    Usable by several threads: each that iterates has a batch of its own. An event is finished when
    its thread asks for the next one, or leaves the `with` block without an error. A child of `fork`
    begins anew: what its parent had taken is the parent's.

    Example:
        >>> with Queue(folder).consumer(stop_when_empty=True) as consumer:
        ...     for event in consumer:
        ...         print(event)
        1
        2
        3
    """

    def __init__(self, folder: Folder, settings: QueueSettings, *, stop_when_empty: bool) -> None:
        self._folder = folder
        self._settings = settings
        self._stop_when_empty = stop_when_empty
        self._decoder = Decoder(codec_named(settings.codec))
        self._is_closed = False
        self._is_open = False
        self._lock = threading.Lock()
        self._open()
        watch(self)

    def __iter__(self) -> Iterator[Any]:
        """The events, as they come; ends with the queue, or when it is empty if so asked.

        Raises:
            QueueClosed: this consumer was closed.
            FolderFailed: the system refuses something in the folder.
        """
        # Chained in C: a generator would be entered for each event, this one is for each part.
        return chain.from_iterable(self._parts())

    def get(self, *, block: bool = True, timeout: float | None = None) -> Any:
        """The next event. The one that this thread got before is finished by that.

        Args:
            block: Wait for an event; False: raise at once.
            timeout: Wait so many seconds at most; None: for ever.

        Raises:
            QueueEmpty: there was none in time.
            QueueClosed: the queue was closed and is empty, or this consumer was closed.
            FolderFailed: the system refuses something in the folder.
        """
        until = None if timeout is None else monotonic() + timeout
        while True:
            rest = 0.0 if not block else None if until is None else max(until - monotonic(), 0.0)
            cursor = self._get_cursor(rest)
            if cursor is None:
                if self._folder.is_closed() and self.has_ended:
                    raise QueueClosed(
                        f"the queue in {str(self._folder.path)!r} is closed and empty"
                    )
                raise QueueEmpty(str(self._folder.path))
            for event in cursor.events:
                return event
            self._advance(cursor)

    def poll(self, *, timeout: float = 0.0) -> Iterator[Any]:
        """The events, as by iteration, and None each time that there is none for `timeout` seconds.

        An event that is None itself looks the same. It never ends.

        Raises:
            QueueClosed: this consumer was closed.
            FolderFailed: the system refuses something in the folder.
        """
        while True:
            until = monotonic() + timeout
            if cursor := self._get_cursor(timeout):
                yield from cursor.events
                self._advance(cursor)
            else:
                sleep(max(until - monotonic(), 0))  # A queue that is closed says so at once.
                yield None

    def acknowledge(self) -> None:
        """All events that this thread was given are finished; note that now.

        Raises:
            FolderFailed: the note cannot be written.
        """
        if self._is_open and (cursor := self._mine.cursor):
            cursor.checkpoint()

    def give_back(self, error: Exception | str | None = None) -> None:
        """Give back this thread's batch, from the event on that it was given last.

        Args:
            error: What that event failed with, if it did; see `Batch.give_back`.

        Raises:
            FolderFailed: the batch cannot be moved.
        """
        if self._is_open and (cursor := self._take_cursor()):
            cursor.settle(is_finished=False, error=error)

    def batches(self) -> Iterator[Batch]:
        """Whole batches, as they come; ends like iteration over events.

        Raises:
            QueueClosed: this consumer was closed.
            FolderFailed: the system refuses something in the folder.
        """
        while (batch := self.take()) is not None:
            yield batch

    def take(self, *, timeout: float | None = None) -> Batch | None:
        """The oldest ready batch, which is this consumer's from now on.

        Args:
            timeout: Wait so many seconds at most, 0: not at all, None: for ever.

        Returns:
            The batch; None if none was ready in time, or the queue has ended.

        Raises:
            QueueClosed: this consumer was closed.
            SettingsError: a batch's codec is one that this queue does not read.
            FolderFailed: the system refuses something in the folder.
        """
        until = None if timeout is None else monotonic() + timeout
        while True:
            now = monotonic()
            with self._lock:
                self._check_open()
                if now >= self._recover_at:
                    self._recover()
                batch = self._claims.next(now)
            if batch is not None:
                return batch
            if self.has_ended:
                self._ready.ring()  # Whoever else waits here is to see it, too.
                return None
            rest = RECOVERY_EVERY_S if until is None else min(until - now, RECOVERY_EVERY_S)
            if rest <= 0:
                return None
            self._ready.wait(rest)

    @property
    def has_ended(self) -> bool:
        """Whether nothing is ready, and nothing is to be waited for: `take` gave None for good.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        is_closed = self._folder.is_closed()
        if not (self._stop_when_empty or is_closed):
            return False
        with self._lock:
            recovered = recover(self._folder, self._format, self._settings.max_failures)
            mine = {batch.name for batch in self._claims.held}
        if recovered or self._folder.count(State.READY):
            return False
        if self._stop_when_empty:
            return True
        # The batches of others may come back, if those die. Two looks, because a listing may miss
        # a batch that is renamed meanwhile.
        states = (State.READY, State.CHOSEN, State.LOADING)
        return not any(set(self._folder.names(*states)) - mine for _ in range(2))

    def close(self) -> None:
        """Give back what was not finished, and free what the consumer holds. May be called again.

        The last event that this thread was given counts as finished; those of other threads do not.

        Raises:
            FolderFailed: a batch cannot be given back.
        """
        self._close(is_finished=True)

    def after_fork(self) -> None:
        """Begin anew in a child of `fork`, without the batches that the parent has taken."""
        self._lock = threading.Lock()  # Another thread may have held it.
        if self._is_open:
            self._is_open = False  # The next use opens it again; that may be in a grandchild.
            parts: list[Handle] = [*self._cursors, *self._claims.held, self._ready, self._room]
            for part in parts:
                part.after_fork()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:  # Ctrl-C and its like are no failure of the event.
                self.give_back(error if isinstance(error, Exception) else None)
        finally:
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Consumer cannot be pickled; send its Queue, and make one there")

    def _open(self) -> None:
        self._format = BatchFormat()
        self._ready, self._room, self._owner = open_end(self._folder, CONSUMER)
        self._claims = Claims(
            self._folder,
            self._format,
            self._decoder,
            max_failures=self._settings.max_failures,
            ready=self._ready,
            room=self._room,
            owner=self._owner,
        )
        self._mine = _Mine()
        self._cursors: dict[Cursor, threading.Thread] = {}
        self._at_exit = AtExit(lambda: self._close(is_finished=False))
        self._recover_at = 0.0
        self._is_open = True

    def _close(self, *, is_finished: bool) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if not self._is_open:
                return  # Inherited by `fork`, and not used since.
            self._is_open = False
            mine, self._mine.cursor = self._mine.cursor, None
            cursors, batches = list(self._cursors), list(self._claims.held)
        failures: list[Exception] = []
        steps: list[Callable[[], None]] = [
            partial(cursor.settle, is_finished=is_finished and cursor is mine) for cursor in cursors
        ]
        steps += [batch.give_back for batch in batches]
        for step in steps:
            try:
                step()
            except BatchSettled:
                pass  # By its cursor, or by the thread that works on it.
            except FolderFailed as error:
                failures.append(error)
        self._owner.close()
        self._ready.close()
        self._room.close()
        self._at_exit.cancel()
        if failures:
            raise failures[0]

    def _get_cursor(self, timeout: float | None) -> Cursor | None:
        """This thread's place in its batch, or one in the next batch; None if there is none."""
        if not self._is_open:
            with self._lock:
                self._check_open()
        if self._mine.cursor is None and (batch := self.take(timeout=timeout)) is not None:
            cursor = Cursor(batch, self._settings.checkpoint)
            self._cursors[cursor] = threading.current_thread()
            self._mine.cursor = cursor
        return self._mine.cursor

    def _parts(self) -> Iterator[Iterator[Any]]:
        while cursor := self._get_cursor(None):
            yield cursor.events
            self._advance(cursor)

    def _take_cursor(self) -> Cursor | None:
        """This thread's place in its batch, which it leaves."""
        cursor, self._mine.cursor = self._mine.cursor, None
        if cursor:
            self._cursors.pop(cursor, None)
        return cursor

    def _advance(self, cursor: Cursor) -> None:
        """Go on in this thread's batch, of which all that was given is finished by now."""
        if cursor is not self._mine.cursor:
            return  # It was given back meanwhile, or this is a child of `fork`.
        try:
            if cursor.advance():
                return
            cursor.batch.acknowledge()
        except BatchDamaged as error:
            cursor.batch.set_aside(error.reason)
        except BatchSettled:
            pass  # Another thread closed the consumer; the next call says so.
        self._take_cursor()

    def _recover(self) -> None:
        """Take over what dead processes left, and what threads of this one did that have ended."""
        self._recover_at = monotonic() + RECOVERY_EVERY_S
        try:
            for cursor in [one for one, thread in self._cursors.items() if not thread.is_alive()]:
                del self._cursors[cursor]
                cursor.settle(is_finished=False)
            recovered = recover_in_turn(self._folder, self._format, self._settings.max_failures)
        except FolderFailed as error:
            logger.warning("dead owners' batches are not taken over yet: %s", error)
            return
        if recovered:
            self._ready.ring()

    def _check_open(self) -> None:
        if self._is_closed:
            raise QueueClosed("this consumer was closed; make a new one with queue.consumer()")
        if not self._is_open:
            self._open()


class _Mine(threading.local):
    """What a thread has under way."""

    cursor: Cursor | None = None
