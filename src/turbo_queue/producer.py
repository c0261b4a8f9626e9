"""A producer: events in, full batches out, or small ones while consumers have nothing to do."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable
from time import monotonic
from types import TracebackType
from typing import Any, NoReturn, Self

from turbo_queue.ageing import RETRY_S, Ager
from turbo_queue.batch_file import BatchFormat
from turbo_queue.codec import Row, codec_named
from turbo_queue.encoding import Encoder
from turbo_queue.ends import open_end
from turbo_queue.errors import FolderFailed, QueueClosed, QueueFull, TurboQueueError
from turbo_queue.exits import AtExit, sigterm_exits
from turbo_queue.folder import Folder, Held
from turbo_queue.forks import watch
from turbo_queue.loading import Loading
from turbo_queue.names import NameSequence
from turbo_queue.owners import PRODUCER
from turbo_queue.settings import QueueSettings
from turbo_queue.states import State

logger = logging.getLogger(__name__)

#: For how long events gather while consumers wait for them: a batch each 2 ms costs a producer
#: some 5 % of a core, and 2 ms is what an idle queue may take to hand an event over.
LINGER_S = 0.002

#: … and at least this many times what the last publication took, for disks that are slow to sync.
LINGER_PUBLICATIONS = 8

#: How soon it is looked again whether consumers wait, while they are busy and a batch is not full.
RECHECK_S = 0.005

#: How long a producer waits for room before it looks for itself; a bell wakes it earlier.
ROOM_POLL_S = 0.1


class Producer:
    """Puts events into a queue. Made by `Queue.producer()`; usable by several threads.

    Closing it, leaving its `with` block, the normal end of the process and SIGTERM publish what
    was put. A child of `fork` begins anew: what its parent had put is the parent's.
    """

    def __init__(self, folder: Folder, settings: QueueSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._codec = codec_named(settings.codec)
        self._encoder = Encoder(self._codec, settings.max_event_bytes, settings.max_batch_bytes)
        self._encode = self._encoder.encode
        self._loading = Loading(self._codec, settings.max_events_per_file, settings.max_batch_bytes)
        self._lock = threading.Lock()
        self._held: Held | None = None
        self._first_at = self._published_at = 0.0
        self._linger_s = LINGER_S
        self._is_closed = False
        self._is_open = False
        self._open()
        watch(self)

    def put(self, event: Any, *, block: bool = True, timeout: float | None = None) -> None:
        """Put an event. When it raises, the event was not put.

        Args:
            event: What the queue's codec can carry.
            block: Wait while `max_ready_files` batches are ready; False: raise at once.
            timeout: Wait so many seconds at most; None: for ever.

        Raises:
            QueueFull: there was no room in time.
            QueueClosed: the queue or this producer was closed.
            BadEvent: the codec cannot carry the event, or it is too large.
            FolderFailed: the batch that this event completes could not be written.

        Example:
            >>> with Queue(folder).producer() as producer:
            ...     producer.put({"id": 1})
        """
        data = self._encode(event)
        with self._lock:
            if self._loading.add_event(data):
                return
        self._put_rows(self._codec.rows([data]), block=block, timeout=timeout)

    def put_many(
        self, events: Iterable[Any], *, block: bool = True, timeout: float | None = None
    ) -> None:
        """Put events, in order, faster than one by one.

        When it raises, the events before the one that failed were put; the error's `events_put`
        tells how many those are.

        Args:
            events: Any number of them; an endless generator, too.
            block: As for `put`.
            timeout: As for `put`, for all of them together.

        Raises:
            QueueFull: there was no room in time.
            QueueClosed: the queue or this producer was closed.
            BadEvent: the codec cannot carry an event, or it is too large.
            FolderFailed: a batch could not be written.
        """
        until = None if timeout is None else monotonic() + timeout
        iterator = iter(events)
        put = 0
        while True:
            groups, failure = self._encoder.take(iterator, max(self._loading.space, 1))
            for rows in groups:
                rest = None if until is None else max(until - monotonic(), 0)
                try:
                    self._put_rows(rows, block=block, timeout=rest)
                except TurboQueueError as error:
                    error.events_put = put
                    raise
                put += sum(row.number for row in rows)
            if failure:
                failure.events_put = put
                raise failure
            if not groups:
                return

    def flush(self) -> None:
        """Make all that was put ready for consumers, also above `max_ready_files`.

        What was put before is then safe from a kill -9 of every process; with `fsync` from a loss
        of power, too.

        Raises:
            FolderFailed: the batch could not be written; its events are kept and tried again.
        """
        with self._lock:
            if self._loading.events:
                self._publish()

    def close(self) -> None:
        """Flush, and free what the producer holds. May be called again.

        Raises:
            FolderFailed: the last batch could not be written; the producer stays open.
        """
        with self._lock:
            if self._is_closed:
                return
            if self._loading.events:
                self._publish()
            self._is_closed = True
            if not self._is_open:
                return  # Inherited by `fork`, and not used since.
            self._is_open = False
            if self._held:
                self._folder.abandon(self._held)
                self._held = None
            self._owner.close()
        self._ager.stop()
        self._ready.close()
        self._room.close()
        self._at_exit.cancel()
        sigterm_exits.leave()

    def begin(self) -> None:
        """Make the file of the next batch now, not with its first event.

        Raises:
            QueueClosed: the queue or this producer was closed.
            FolderFailed: the file cannot be made.
        """
        with self._lock:
            self._check_open()
            self._begin()

    def after_fork(self) -> None:
        """Begin anew in a child of `fork`, with nothing of what the parent had put."""
        self._lock = threading.Lock()  # Another thread may have held it.
        if self._is_open:
            self._is_open = False  # The next use opens it again; that may be in a grandchild.
            self._loading.clear()
            self._held = None
            self._ready.after_fork()
            self._room.after_fork()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Producer cannot be pickled; send its Queue, and make one there")

    def _open(self) -> None:
        self._format = BatchFormat()
        self._names = NameSequence(secrets.randbits(62))
        self._ready, self._room, self._owner = open_end(self._folder, PRODUCER)
        self._ager = Ager(self._age)
        self._at_exit = AtExit(self.close)
        sigterm_exits.use()
        self._is_open = True

    def _put_rows(self, rows: list[Row], *, block: bool, timeout: float | None) -> None:
        until = None if timeout is None else monotonic() + timeout
        while rows:
            with self._lock:
                if self._add(rows):
                    return
            self._wait_for_room(until if block else 0.0)

    def _add(self, rows: list[Row]) -> bool:
        """Add rows that belong together; False if there is no room for a new batch."""
        self._check_open()
        loading = self._loading
        if not loading.has_space_for(rows):
            self._publish()
        is_first = not loading.events
        if is_first and not self._has_room():
            return False
        if is_first and self._folder.is_closed():
            raise QueueClosed(
                f"the queue in {str(self._folder.path)!r} was closed; queue.reopen() opens it"
            )
        self._begin()
        loading.add_rows(rows)
        now = monotonic()
        if is_first:
            self._first_at = now
        try:
            if loading.is_full or (is_first and self._may_publish_early(now)):
                self._publish()
            elif is_first:
                self._ager.arm(min(self._linger_s, self._settings.max_batch_age))
        except BaseException:
            if loading.events:  # They are not ready, and shall not be.
                loading.take_back(rows)
            raise
        return True

    def _publish(self) -> None:
        """Write the batch and make it ready; when that fails, the events stay as they are."""
        before = monotonic()
        events = self._loading.events
        data = self._format.write(self._loading.contents())
        held, self._held = self._begin(), None
        try:
            self._folder.publish(held, data)
        finally:
            if held.name.state is State.READY:
                self._loading.clear()
            held.release()
        self._ready.ring()
        self._owner.count(events)
        self._published_at = monotonic()
        self._linger_s = max(LINGER_S, LINGER_PUBLICATIONS * (self._published_at - before))

    def _begin(self) -> Held:
        """The file of the batch that is being filled, made at need."""
        while self._held is None:
            self._held = self._folder.begin(self._names.next(time.time_ns() // 1_000_000))
        return self._held

    def _may_publish_early(self, now: float) -> bool:
        """Whether consumers wait for work, and it is not too soon after the last batch."""
        return now - self._published_at >= self._linger_s and self._ready.is_silent()

    def _age(self) -> float | None:
        """Publish a batch whose time has come; gives the seconds until the next look, if any."""
        with self._lock:
            if self._is_closed or not self._loading.events:
                return None
            now = monotonic()
            age_s = now - self._first_at
            limit_s = self._settings.max_batch_age
            if age_s < limit_s and not self._may_publish_early(now):
                return min(max(RECHECK_S, self._linger_s - age_s), limit_s - age_s)
            try:
                self._publish()
            except FolderFailed as error:
                logger.error(
                    "a batch could not be written, its %d events are kept: %s",
                    self._loading.events,
                    error,
                    extra={"event": "batch.not_written"},
                )
                return RETRY_S
            return None

    def _has_room(self) -> bool:
        limit = self._settings.max_ready_files
        return limit is None or self._folder.count(State.READY) < limit

    def _wait_for_room(self, until: float | None) -> None:
        self._room.silence()
        if self._has_room():
            return
        rest = ROOM_POLL_S if until is None else min(until - monotonic(), ROOM_POLL_S)
        if rest <= 0:
            raise QueueFull(str(self._folder.path), self._settings.max_ready_files or 0)
        self._room.wait(rest)

    def _check_open(self) -> None:
        if self._is_closed:
            raise QueueClosed("this producer was closed; make a new one with queue.producer()")
        if not self._is_open:
            self._open()
