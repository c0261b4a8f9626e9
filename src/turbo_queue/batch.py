"""A batch that a consumer holds, and the cursor that gives its events one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import length_hint
from types import TracebackType
from typing import Any, Self

from turbo_queue.batch_file import Contents
from turbo_queue.codec import Decoder
from turbo_queue.errors import BatchSettled
from turbo_queue.folder import Folder, Held
from turbo_queue.settlement import return_failed, return_unharmed


class Batch:
    """A batch that is this consumer's until it is acknowledged or given back.

    As a context manager it is acknowledged at the end, and given back when an error leaves the
    block. Iterating over it gives its events that are not finished, and finishes none by itself.

    Example:
        >>> with Queue(folder).consumer(stop_when_empty=True) as consumer:
        ...     for batch in consumer.batches():
        ...         with batch:
        ...             print(sum(batch))
        6
    """

    def __init__(
        self,
        folder: Folder,
        held: Held,
        contents: Contents,
        *,
        decoder: Decoder,
        max_failures: int,
        on_settled: Callable[[Batch, int, bool], None],
    ) -> None:
        self._folder = folder
        self._held: Held | None = held
        self._contents = contents
        self._decoder = decoder
        self._max_failures = max_failures
        self._on_settled = on_settled
        self._name = str(held.name)
        self._done = contents.done
        # Settling is for one thread; a consumer that closes may meet the one that works.
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """The name of its file while it is held."""
        return self._name

    @property
    def is_held(self) -> bool:
        """Whether it is still this consumer's: neither acknowledged nor given back."""
        return self._held is not None

    @property
    def done(self) -> int:
        """How many of its events, from the first on, are finished."""
        return self._done

    @property
    def failures(self) -> int:
        """How often in a row it has failed at the first event that is not finished."""
        return self._contents.failures if self._contents.failed_at == self._done else 0

    def __len__(self) -> int:
        """How many of its events are not finished."""
        return self._contents.events - self._done

    def __iter__(self) -> Iterator[Any]:
        for events in self.rows():
            yield from events

    def rows(self) -> Iterator[list[Any]]:
        """The events that are not finished, some at a time, as they lie in the file.

        Raises:
            BatchDamaged: the codec cannot read them.
        """
        skip = self._done
        for row in self._contents.rows:
            if skip >= row.number:
                skip -= row.number
                continue
            events = self._decoder.events(self._contents.codec, row)
            yield events[skip:] if skip else events
            skip = 0

    def checkpoint(self, done: int) -> None:
        """Note that the batch's first `done` events are finished.

        Args:
            done: Counted from the first event of the batch, also if it was given back before.

        Raises:
            BatchSettled: the batch is no longer held.
            ValueError: it has fewer events, or more of them were finished before.
            FolderFailed: the note cannot be written.
        """
        if not self._done <= done <= self._contents.events:
            raise ValueError(
                f"{done} is not between {self._done} and {self._contents.events}, which the batch "
                f"{self._name} has finished and has in all"
            )
        with self._lock:
            if done != self._done:
                self._folder.note_progress(self._get_held(), done)
                self._done = done

    def acknowledge(self) -> None:
        """All its events are finished: remove it.

        Raises:
            BatchSettled: the batch is no longer held.
            FolderFailed: it cannot be removed.
        """
        with self._lock:
            self._folder.remove(self._get_held())
            self._settled(self._contents.events, is_back=False)

    def give_back(self, error: BaseException | str | None = None) -> None:
        """Make it ready again, for any consumer; what was finished stays finished.

        Args:
            error: Why, if it failed. A batch that fails `max_failures` times in a row at the same
                event goes to the dead ones, with this text.

        Raises:
            BatchSettled: the batch is no longer held.
            FolderFailed: it cannot be moved.
        """
        with self._lock:
            held = self._get_held()
            if error is None:
                return_unharmed(self._folder, held)
            else:
                reason = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
                failed = self._contents.failed(self._done, reason)
                return_failed(self._folder, held, failed, self._max_failures)
            self._settled(self._done, is_back=True)

    def bury(self, reason: str) -> None:
        """Make it dead at once, however often it has failed; `Queue.dead` has it then.

        Args:
            reason: Why.

        Raises:
            BatchSettled: the batch is no longer held.
            FolderFailed: it cannot be moved.
        """
        with self._lock:
            failed = self._contents.failed(self._done, reason)
            dead = replace(failed, failures=max(self.failures, 1))  # This is no failure more.
            return_failed(self._folder, self._get_held(), dead, max_failures=1)
            self._settled(self._done, is_back=False)

    def set_aside(self, reason: str) -> None:
        """Move its file to those that are no batches, because its events cannot be read.

        Raises:
            BatchSettled: the batch is no longer held.
            FolderFailed: it cannot be moved.
        """
        with self._lock:
            held = self._get_held()
            self._folder.set_aside(str(held.name), reason)
            held.release()
            self._settled(self._done, is_back=False)

    def after_fork(self) -> None:
        """Forget, in a child of `fork`, what stays the parent's."""
        self._lock = threading.RLock()
        self._held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._held is None:
            return
        if error is None:
            self.acknowledge()
        else:  # Ctrl-C and its like are no failure of the batch.
            self.give_back(error if isinstance(error, Exception) else None)

    def _settled(self, done: int, *, is_back: bool) -> None:
        self._held = None
        self._on_settled(self, done - self._contents.done, is_back)

    def _get_held(self) -> Held:
        if self._held is None:
            raise BatchSettled(self._name)
        return self._held


class Cursor:
    """Gives a batch's events one by one, can stop anywhere and go on, and notes the progress.

    An event is finished when the next one is asked for.

    Args:
        batch: Whose events.
        checkpoint: Progress is noted before more events than this would be repeated.
    """

    def __init__(self, batch: Batch, checkpoint: int) -> None:
        self.batch = batch
        self.events: Iterator[Any] = iter(())
        self._parts = _parts(batch.rows(), checkpoint)
        self._next: list[Any] | None = None
        self._checkpoint = checkpoint
        self._end = batch.done
        self._lock = threading.RLock()

    def advance(self) -> bool:
        """Go on to the next part, once `events` is exhausted; False at the end of the batch.

        Raises:
            BatchDamaged: the codec cannot read it.
            BatchSettled: the consumer was closed by another thread.
            FolderFailed: the progress cannot be noted; another call tries again.
        """
        with self._lock:
            if self._next is None:
                self._next = next(self._parts, None)
            if self._next is None:
                return False
            part = self._next
            end = self._end + len(part)
            if end - self.batch.done > self._checkpoint:
                self.batch.checkpoint(self._end)
            # In this order: whatever interrupts it, no event counts as given that was not.
            self.events = iter(part)
            self._end = end
            self._next = None
            return True

    def checkpoint(self) -> None:
        """Note that all events given so far are finished.

        Raises:
            BatchSettled: the consumer was closed by another thread.
            FolderFailed: the note cannot be written.
        """
        with self._lock:
            self.batch.checkpoint(self._given)

    def settle(self, *, is_finished: bool, error: Exception | str | None = None) -> None:
        """Leave the batch where it stands; does nothing if it was settled before.

        Args:
            is_finished: Whether the event that was given last is finished.
            error: What that event failed with.

        Raises:
            FolderFailed: the batch cannot be moved.
        """
        with self._lock:
            if not self.batch.is_held:
                return
            done = self._given if is_finished else self._given - 1
            self.forget()
            self.batch.checkpoint(max(done, self.batch.done))
            if len(self.batch):
                self.batch.give_back(error)
            else:
                self.batch.acknowledge()

    def forget(self) -> None:
        """Give no more events to whoever iterates over them."""
        for _ in self.events:
            pass

    def after_fork(self) -> None:
        """Give no more events in a child of `fork`; they are the parent's."""
        self._lock = threading.RLock()
        self.forget()

    @property
    def _given(self) -> int:
        return self._end - length_hint(self.events)


def _parts(rows: Iterator[list[Any]], most: int) -> Iterator[list[Any]]:
    for events in rows:
        if len(events) <= most:
            yield events
        else:
            for start in range(0, len(events), most):
                yield events[start : start + most]
