"""The interface that turbo-queue began with: objects whose attributes are set one by one.

A thin layer over `Queue`. `get()` gives None when the queue is empty now, also between events
that are falsy; it never ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from turbo_queue.batch import Batch
from turbo_queue.consumer import Consumer
from turbo_queue.errors import SettingsError
from turbo_queue.folder import Folder
from turbo_queue.producer import Producer
from turbo_queue.queue import Queue
from turbo_queue.states import State

#: How long a queue stays empty before `get()` says so: a loop over it then costs no CPU.
EMPTY_AFTER_S = 0.5


class _Settings:
    """What all three have: where the queue is."""

    def __init__(self) -> None:
        self.queue_name: str = ""
        self.root_path: str = ""

    def _queue(self, **settings: Any) -> Queue:
        name = self.queue_name
        if not isinstance(self.root_path, str) or not self.root_path:
            raise SettingsError(f"root_path is {self.root_path!r}; set it to the path of a folder")
        if not isinstance(name, str) or not name or name[0] == "." or {"/", "\0"} & set(name):
            raise SettingsError(
                f"queue_name is {name!r}; it must be the name of one folder in root_path, without "
                f"a slash and without a dot at its start"
            )
        return Queue(Path(self.root_path) / name, **settings)


class Startup(_Settings):
    """Gives back what processes that died have left, at the start of a program.

    Touches nothing of those who live, so it may run at any time.

    Example:
        >>> clean_turbo_queue = startup()
        >>> clean_turbo_queue.queue_name = "data_in"
        >>> clean_turbo_queue.root_path = folder
        >>> clean_turbo_queue.on_start_cleanup()
    """

    def on_start_cleanup(self) -> None:
        """Make batches of dead owners ready again.

        Raises:
            SettingsError: `queue_name` or `root_path` makes no sense.
            FolderFailed: the system refuses.
        """
        self._queue().recover()


class Enqueue(_Settings):
    """Puts events.

    Attributes:
        queue_name: The name of the queue's folder in `root_path`.
        root_path: The folder of the queue's folder.
        max_ready_files: `enqueue_active` is False while so many batches are ready; 1.
        max_events_per_file: A batch is full with this many events; 80,000.
        max_batch_age: Seconds after which a batch is made ready, however few events it has; 10.
        enqueue_active: Whether to go on adding; what `update_enqueue_active_state` found.

    Example:
        >>> into = enqueue()
        >>> into.queue_name, into.root_path = "data_in", folder
        >>> into.start()
        >>> into.add({"data": "add_to_queue"})
        >>> into.close()
    """

    def __init__(self) -> None:
        super().__init__()
        self.max_ready_files = 1
        self.max_events_per_file = 80_000
        self.max_batch_age: float = 10
        self.enqueue_active = False
        self._parts: tuple[Producer, Folder] | None = None

    def start(self) -> None:
        """Begin with the settings as they are.

        Raises:
            SettingsError: a setting makes no sense.
            FolderFailed: the folder cannot be used.
        """
        queue = self._queue(
            max_events_per_file=self.max_events_per_file, max_batch_age=self.max_batch_age
        )
        self._parts = queue.producer(), Folder(queue.path)
        self._parts[0].begin()

    def add(self, event: Any) -> None:
        """Put an event; never waits, so look at `enqueue_active` from time to time.

        Raises:
            RuntimeError: `start()` was not called.
            BadEvent: the event is not JSON.
            FolderFailed: the batch that it completes could not be written.
        """
        self._started()[0].put(event)

    def update_enqueue_active_state(self) -> None:
        """Look how many batches are ready, and set `enqueue_active`.

        Raises:
            RuntimeError: `start()` was not called.
        """
        folder = self._started()[1]
        self.enqueue_active = folder.count(State.READY) < self.max_ready_files

    def flush(self) -> None:
        """Make all that was added ready now.

        Raises:
            RuntimeError: `start()` was not called.
            FolderFailed: the batch could not be written; its events are kept.
        """
        self._started()[0].flush()

    def close(self) -> None:
        """Flush, and end. The end of the program does it, too."""
        if self._parts:
            self._parts[0].close()

    def _started(self) -> tuple[Producer, Folder]:
        if self._parts is None:
            raise RuntimeError("call start() before adding events, after setting the attributes")
        return self._parts


class Dequeue(_Settings):
    """Takes events.

    Args:
        proc_num: A number of the caller's own for this process; kept, and not used.

    Attributes:
        queue_name: The name of the queue's folder in `root_path`.
        root_path: The folder of the queue's folder.
        auto_cleanup: Remove a batch after its last event; False: `clean_up()` or `roll_back()`
            says what becomes of it, and until then the generator goes no further.

    Example:
        >>> out = dequeue(1)
        >>> out.queue_name, out.root_path = "data_in", folder
        >>> print(next(out.get()))
        None
        >>> out.close()
    """

    def __init__(self, proc_num: int | None = None) -> None:
        super().__init__()
        self.proc_num = proc_num
        self.auto_cleanup = True
        self._consumer: Consumer | None = None
        self._batch: Batch | None = None

    def get(self) -> Iterator[Any]:
        """The events, and None whenever the queue stays empty for half a second.

        Raises:
            SettingsError: `queue_name` or `root_path` makes no sense.
            FolderFailed: the folder cannot be used.
        """
        if self._consumer is None:
            self._consumer = self._queue().consumer()
        if self.auto_cleanup:
            return self._consumer.poll(timeout=EMPTY_AFTER_S)
        return self._whole_batches(self._consumer)

    def clean_up(self) -> None:
        """Remove the batch under way, which is finished. `auto_cleanup` does it by itself."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.acknowledge()

    def roll_back(self) -> None:
        """Make the batch under way ready again.

        With `auto_cleanup` it begins with the event that was given last, otherwise from its start.
        """
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.give_back()
        elif self._consumer:
            self._consumer.give_back()

    def close(self) -> None:
        """Give back what is not finished. The end of the program does it, too."""
        if self._consumer:
            self._consumer.close()

    def _whole_batches(self, consumer: Consumer) -> Iterator[Any]:
        while True:
            batch = self._batch = consumer.take(timeout=EMPTY_AFTER_S)
            if batch is None:
                yield None
                continue
            yield from batch
            while self._batch is batch:
                yield None


# The names of the README of turbo-queue; those of its releases are capitalised.
startup = Startup
enqueue = Enqueue
dequeue = Dequeue
