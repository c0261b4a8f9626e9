"""The batches that failed too often: list them, look at them, put them back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from turbo_queue.batch_file import BatchFormat, Contents
from turbo_queue.codec import Decoder, codec_named
from turbo_queue.errors import BatchDamaged, BatchNotFound
from turbo_queue.folder import Folder
from turbo_queue.names import BatchName
from turbo_queue.peeks import peek
from turbo_queue.states import State


@dataclass(frozen=True, slots=True)
class DeadBatch:
    """A batch that failed too often.

    Args:
        name: The name of its file.
        reason: What it failed with the last time.
        failures: How often it failed in a row.
        failed_at: The event (counted from 0) that it failed at.
        events: How many of its events are not finished.
        codec: The name of their codec.
    """

    name: str
    reason: str
    failures: int
    failed_at: int
    events: int
    codec: str


class DeadBatches:
    """The dead batches of one queue. Made by `Queue.dead`.

    Example:
        >>> for batch in Queue(folder).dead:
        ...     print(batch.name, batch.reason)
    """

    def __init__(self, folder: Folder, codec: str) -> None:
        self._folder = folder
        self._codec = codec

    def __iter__(self) -> Iterator[DeadBatch]:
        """Oldest first.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        for text in self._folder.names(State.DEAD):
            try:
                name, contents = self._read(text)
            except (BatchNotFound, BatchDamaged):
                continue  # Retried just now, or foreign.
            yield DeadBatch(
                str(name),
                contents.reason or "",
                contents.failures,
                contents.failed_at,
                contents.events - contents.done,
                contents.codec,
            )

    def __len__(self) -> int:
        return self._folder.count(State.DEAD)

    def events(self, name: str) -> list[Any]:
        """The events of a dead batch that are not finished; the first one is what it failed at.

        Raises:
            BatchNotFound: there is no dead batch of this name.
            BatchDamaged: its file does not hold a batch.
            SettingsError: its codec is one that this queue does not read.
        """
        _, contents = self._read(name)
        return contents.unfinished(Decoder(codec_named(self._codec)))

    def retry(self, name: str) -> None:
        """Put a dead batch back among the ready ones, as if it had never failed.

        Raises:
            BatchNotFound: there is no dead batch of this name.
            BatchDamaged: its file does not hold a batch.
            FolderFailed: the system refuses.
        """
        found, _ = self._read(name)
        held = self._folder.own(found)
        if held is None:
            raise BatchNotFound(name)
        try:
            batch_format = BatchFormat()
            contents = batch_format.read(self._folder.read(held))
            self._folder.rewrite(held, batch_format.write(contents.forgiven()))
            self._folder.move(held, State.READY)
        finally:
            held.release()
        self._folder.ring_ready()

    def drop(self, name: str) -> None:
        """Remove a dead batch for good, with its events.

        Raises:
            BatchNotFound: there is no dead batch of this name.
            FolderFailed: the system refuses.
        """
        found = BatchName.parse(name)
        held = self._folder.own(found) if found and found.state is State.DEAD else None
        if held is None:
            raise BatchNotFound(name)
        try:
            self._folder.remove(held)
        finally:
            held.release()

    def _read(self, text: str) -> tuple[BatchName, Contents]:
        name = BatchName.parse(text)
        data = peek(self._folder, name) if name and name.state is State.DEAD else None
        if name is None or data is None:
            raise BatchNotFound(text)
        return name, BatchFormat().read(data)
