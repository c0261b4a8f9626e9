"""The batches that a consumer has taken: the oldest that it can have, until each is settled."""

from __future__ import annotations

from time import monotonic

from turbo_queue.batch import Batch
from turbo_queue.batch_file import BatchFormat
from turbo_queue.bells import Bell
from turbo_queue.candidates import Candidates
from turbo_queue.codec import Decoder
from turbo_queue.errors import BatchDamaged
from turbo_queue.folder import Folder, Held
from turbo_queue.names import BatchName
from turbo_queue.owners import Owner
from turbo_queue.settlement import return_unharmed
from turbo_queue.states import State


class Claims:
    """Takes batches out of a folder for one consumer, and counts what becomes of them.

    Attributes:
        held: Those that are not settled.

    Args:
        folder: Whose batches.
        batch_format: Reads their files.
        decoder: Reads their events.
        max_failures: With so many failures a batch is dead.
        ready: The bell that says that there are batches.
        room: The bell of producers that wait.
        owner: The consumer's sign of life, which counts what is finished.
    """

    def __init__(
        self,
        folder: Folder,
        batch_format: BatchFormat,
        decoder: Decoder,
        *,
        max_failures: int,
        ready: Bell,
        room: Bell,
        owner: Owner,
    ) -> None:
        self._folder = folder
        self._format = batch_format
        self._decoder = decoder
        self._max_failures = max_failures
        self._ready = ready
        self._room = room
        self._owner = owner
        self._candidates = Candidates()
        self.held: set[Batch] = set()

    def next(self, now: float) -> Batch | None:
        """The oldest batch that can be had; None after one new listing. For one thread at a time.

        Args:
            now: The monotonic time in seconds.

        Raises:
            SettingsError: its codec is one that this queue does not read.
            FolderFailed: the system refuses something in the folder.
        """
        is_listed = False
        while True:
            text = self._candidates.take(now)
            if text is None:
                if is_listed:
                    return None
                is_listed = True
                self._ready.silence()  # Before the look: a batch that comes after it rings again.
                names = self._folder.names(State.READY)
                now_listed = monotonic()
                self._candidates.renew(names, now_listed, now_listed - now)
                continue
            name = BatchName.parse(text)
            if name is None:
                self._folder.set_aside(text, "its name is not that of a batch")
                continue
            held = self._folder.claim(name)
            if held is None:
                self._candidates.was_gone()
                continue
            self._candidates.was_there()
            self._room.ring()
            if is_listed and self._candidates.left:
                self._ready.ring()  # The silence above took the rings of the others, too.
            if (batch := self._read(held)) is not None:
                return batch

    def _read(self, held: Held) -> Batch | None:
        try:
            contents = self._format.read(self._folder.read(held))
            self._decoder.check(contents.codec)
            if contents.done == contents.events:
                self._folder.remove(held)  # It was given back with nothing left to do.
                return None
        except BatchDamaged as error:
            try:
                self._folder.set_aside(str(held.name), error.reason)
            finally:
                held.release()
            return None
        except BaseException:
            try:
                return_unharmed(self._folder, held)
            finally:
                held.release()
            raise
        batch = Batch(
            self._folder,
            held,
            contents,
            decoder=self._decoder,
            max_failures=self._max_failures,
            on_settled=self._on_settled,
        )
        self.held.add(batch)
        return batch

    def _on_settled(self, batch: Batch, finished: int, is_back: bool) -> None:  # noqa: FBT001
        self.held.discard(batch)
        self._owner.count(finished, batches=int(not is_back))
        if is_back:
            self._candidates.expire()  # It is older than what the last listing has left.
            self._ready.ring()
