"""A queue: a folder, the settings, and what can be done with them. Holds nothing open itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

from turbo_queue.batch_file import BatchFormat
from turbo_queue.codec import Decoder, codec_named
from turbo_queue.consumer import Consumer
from turbo_queue.dead_batches import DeadBatches
from turbo_queue.errors import BatchDamaged, SettingsError
from turbo_queue.folder import Folder
from turbo_queue.monitor import Monitor, QueueStats
from turbo_queue.names import BatchName
from turbo_queue.owners import Traffic, traffic
from turbo_queue.peeks import peek
from turbo_queue.producer import Producer
from turbo_queue.recovery import Recovered, recover
from turbo_queue.settings import QueueSettings
from turbo_queue.states import State


class Queue:
    """A queue for many processes, whose batches are files in a folder.

    Send it to other processes as it is, or name the same folder there; each makes producers and
    consumers of its own.

    Args:
        path: The folder; made when it is not there. Only its owner may write to it, and it must be
            on a local file system.
        codec: `json` (the default), `msgpack`, `raw` (bytes and str as they are), `record` (the
            `Record`s of pipelines) or `pickle`.
        max_events_per_file: A batch is full with this many events; 10,000.
        max_batch_bytes: … or with this many bytes; 4 MiB.
        max_batch_age: Seconds after which a batch is made ready, however few events it has; 1.
        max_ready_files: Producers wait while so many batches are ready; None: they never wait.
        max_event_bytes: Larger events are refused; 128 MiB.
        fsync: Make each batch survive a loss of power, too.
        checkpoint: A consumer that is killed repeats at most this many events; 100.
        max_failures: A batch that fails so often in a row at the same event is set among the dead
            ones; 5.

    Each setting that is not given is taken from the environment, `TURBO_QUEUE_<NAME>`, if it is
    there.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> queue = Queue(another_folder)
        >>> with queue.producer() as producer:
        ...     producer.put({"id": 1})
        >>> with queue.consumer(stop_when_empty=True) as consumer:
        ...     print(list(consumer))
        [{'id': 1}]
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        codec: str | None = None,
        max_events_per_file: int | None = None,
        max_batch_bytes: int | None = None,
        max_batch_age: float | None = None,
        max_ready_files: int | None = None,
        max_event_bytes: int | None = None,
        fsync: bool | None = None,
        checkpoint: int | None = None,
        max_failures: int | None = None,
    ) -> None:
        self.settings = QueueSettings.of(
            codec=codec,
            max_events_per_file=max_events_per_file,
            max_batch_bytes=max_batch_bytes,
            max_batch_age=max_batch_age,
            max_ready_files=max_ready_files,
            max_event_bytes=max_event_bytes,
            fsync=fsync,
            checkpoint=checkpoint,
            max_failures=max_failures,
        )
        codec_named(self.settings.codec)
        self._folder = Folder(_absolute(path), fsync=self.settings.fsync)

    def with_settings(self, **changes: Any) -> Queue:
        """The same queue, used with other settings.

        Raises:
            SettingsError: a setting makes no sense, or there is no such setting.

        Example:
            >>> Queue(folder).with_settings(checkpoint=1).settings.checkpoint
            1
        """
        return Queue(self.path, **asdict(self.settings) | changes)

    @property
    def path(self) -> Path:
        """The queue's folder."""
        return self._folder.path

    def producer(self, *, is_bounded: bool = True) -> Producer:
        """An end that puts events.

        Args:
            is_bounded: Wait while `max_ready_files` batches are ready; False: never wait.

        Raises:
            FolderRefused: the folder is not safe to use.
            FolderFailed: it cannot be made.
        """
        self._folder.prepare()
        settings = self.settings if is_bounded else replace(self.settings, max_ready_files=None)
        return Producer(self._folder, settings)

    def consumer(self, *, stop_when_empty: bool = False) -> Consumer:
        """An end that takes events.

        Args:
            stop_when_empty: Iteration ends as soon as no batch is ready, instead of waiting.

        Raises:
            FolderRefused: the folder is not safe to use.
            FolderFailed: it cannot be made.
        """
        self._folder.prepare()
        return Consumer(self._folder, self.settings, stop_when_empty=stop_when_empty)

    def close(self) -> None:
        """Take no more events. Consumers end when the queue is empty and nobody holds a batch.

        A producer can still flush what was put before.

        Raises:
            FolderFailed: the mark cannot be made.
        """
        self._folder.prepare()
        self._folder.close()
        self._folder.ring_ready()

    def reopen(self) -> None:
        """Take events again.

        Raises:
            FolderFailed: the mark cannot be removed.
        """
        self._folder.reopen()

    @property
    def is_closed(self) -> bool:
        """Whether `close()` was called, by any process."""
        return self._folder.is_closed()

    @property
    def is_full(self) -> bool:
        """Whether as many batches are ready as may be, so that producers would wait.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        limit = self.settings.max_ready_files
        return limit is not None and self._folder.count(State.READY) >= limit

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, nothing is being worked on and nothing is being filled.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        # Two looks, because a listing may miss a batch that is renamed meanwhile.
        states = (State.LOADING, State.READY, State.CHOSEN)
        return not any(self._folder.names(*states) for _ in range(2))

    @property
    def oldest_ready_s(self) -> float | None:
        """The age of the oldest batch that waits, in seconds; None if none does.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        for text in self._folder.names(State.READY):
            if name := BatchName.parse(text):
                return max(time.time() - name.epoch_ms / 1000, 0.0)
        return None

    @property
    def batches_waiting(self) -> int:
        """How many batches are ready or being worked on.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        return len(self._folder.names(State.READY, State.CHOSEN))

    def traffic(self) -> Traffic:
        """How much has gone in and out since the queue was made.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        return traffic(self._folder) if self._folder.exists() else Traffic()

    def recover(self) -> Recovered:
        """Take over what dead owners left. Touches nothing of those who live; may run at any time.

        Consumers do it by themselves, within a second.

        Raises:
            FolderFailed: the system refuses.
        """
        self._folder.prepare()
        recovered = recover(self._folder, BatchFormat(), self.settings.max_failures)
        if recovered:
            self._folder.ring_ready()
        return recovered

    def peek(self, number: int | None = None, state: State | str = State.READY) -> Iterator[Any]:
        """The events that are not finished, oldest batch first, without taking them.

        Args:
            number: So many at most; None: all.
            state: Of batches that are `ready`, `chosen` or `dead`.

        Raises:
            SettingsError: a batch's codec is one that this queue does not read.
            FolderFailed: the folder cannot be read.
        """
        return islice(self._events(State(state)), number)

    def stats(self) -> QueueStats:
        """What is in the queue, what went through it, and who is at work on it.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        return self.monitor().look()

    def monitor(self) -> Monitor:
        """For looking at the queue again and again: what a batch holds is read once."""
        return Monitor(self._folder)

    @property
    def dead(self) -> DeadBatches:
        """The batches that failed too often."""
        return DeadBatches(self._folder, self.settings.codec)

    def __repr__(self) -> str:
        return f"Queue({str(self.path)!r})"

    def _events(self, state: State) -> Iterator[Any]:
        decoder = Decoder(codec_named(self.settings.codec))
        batch_format = BatchFormat()
        for text in self._folder.names(state):
            name = BatchName.parse(text)
            data = peek(self._folder, name) if name else None
            if not data:
                continue
            try:
                events = batch_format.read(data).unfinished(decoder)
            except BatchDamaged:
                continue  # A consumer will set it aside, with a log line.
            yield from events


def _absolute(path: str | PathLike[str]) -> Path:
    text = os.fspath(path)
    if not text or "\0" in text:
        raise SettingsError(f"the path of a queue is {text!r}; it must name a folder")
    return Path(os.path.abspath(text))  # noqa: PTH100 - resolve() would follow a link
