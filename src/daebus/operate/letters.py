"""The dead letters of a service, wherever they are: on the server, or on this machine's disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daebus.bus.dead_letters import DeadEntry, DeadStream
from daebus.errors import BadMessage, DaebusError
from daebus.messages import check_limits, decode_payload
from daebus.service.parcels import open_parcel
from daebus.service.spool import spool_folder
from turbo_queue import BatchNotFound, DeadBatch, Queue, TurboQueueError

#: The id of an entry of a stream, as the server makes it.
_ENTRY = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)

#: Longest action or channel that is shown, in characters.
MAX_SHOWN = 200


@dataclass(frozen=True)
class Message:
    """One message of a dead letter."""

    data: bytes
    message_id: str | None
    channel: str | None

    @property
    def value(self) -> Any:
        """The message as JSON; as text, where it is none."""
        try:
            check_limits(self.data, len(self.data))
            return decode_payload(self.data)
        except BadMessage:
            return self.data.decode(errors="backslashreplace")

    @property
    def action(self) -> str | None:
        """What it asks for; None for what was published, or cannot be read."""
        value = self.value if self.channel is None else None
        action = value.get("action") if isinstance(value, dict) else None
        return action[:MAX_SHOWN] if isinstance(action, str) else None


@dataclass(frozen=True)
class Letter:
    """What failed too often: one message of the inbox, or what stood in one batch on disk."""

    letter_id: str
    #: `inbox` or `disk`.
    kind: str
    reason: str
    #: How often it was tried.
    deliveries: int
    #: When it was given up, in seconds since 1970.
    at: float
    #: The first is the one that failed.
    messages: list[Message]

    def summary(self) -> dict[str, Any]:
        """What a list of letters tells of this one, for JSON."""
        first = self.messages[0] if self.messages else None
        return {
            "id": self.letter_id,
            "where": self.kind,
            "action": first.action if first else None,
            "channel": first.channel if first else None,
            "reason": self.reason,
            "deliveries": self.deliveries,
            "at": self.at,
            "messages": len(self.messages),
        }


@dataclass(frozen=True)
class DeadLetters:
    """All dead letters of a service.

    Args:
        service: the service's name.
        url: the server's address.
        place: where services of this machine keep files; None for the user's own place.
    """

    service: str
    url: str
    place: Path | None

    def __iter__(self) -> Iterator[Letter]:
        """Those of the inbox, then those on disk; oldest first.

        Raises:
            DaebusError: the server or the disk refuses.
        """
        for entry in self._stream.entries():
            yield _letter_of_entry(entry)
        for queue, batch in self._batches():
            if letter := _letter_of_batch(queue, batch):
                yield letter

    def find(self, letter_id: str) -> Letter | None:
        """The one with this id; None if there is none.

        Raises:
            DaebusError: the server or the disk refuses.
        """
        if _is_entry(letter_id):
            entry = self._stream.find(letter_id)
            return None if entry is None else _letter_of_entry(entry)
        found = self._find_batch(letter_id)
        return None if found is None else _letter_of_batch(*found)

    def retry(self, letter_id: str) -> bool:
        """Let the service have it again; False if there is none with this id.

        Raises:
            DaebusError: the server or the disk refuses.
        """
        if _is_entry(letter_id):
            return self._stream.retry(letter_id)
        return self._with_batch(letter_id, lambda queue, name: queue.dead.retry(name))

    def drop(self, letter_id: str) -> bool:
        """Remove it for good; False if there is none with this id.

        Raises:
            DaebusError: the server or the disk refuses.
        """
        if _is_entry(letter_id):
            return self._stream.drop(letter_id)
        return self._with_batch(letter_id, lambda queue, name: queue.dead.drop(name))

    def retry_all(self) -> int:
        """Let the service have all again; gives how many there were.

        Raises:
            DaebusError: the server or the disk refuses.
        """
        ids = [_id_of(batch) for _, batch in self._batches()]
        return self._stream.retry_all() + sum(self.retry(each) for each in ids)

    def drop_all(self) -> int:
        """Remove all for good; gives how many there were.

        Raises:
            DaebusError: the server or the disk refuses.
        """
        ids = [_id_of(batch) for _, batch in self._batches()]
        return self._stream.drop_all() + sum(self.drop(each) for each in ids)

    def on_disk(self) -> int:
        """How many batches of them are on disk.

        Raises:
            DaebusError: the disk refuses.
        """
        with _telling_of_the_disk():
            folder = spool_folder(self.place, self.service, self.url)
            return sum(len(Queue(path).dead) for path in _queues_in(folder))

    @property
    def _stream(self) -> DeadStream:
        return DeadStream(self.url, self.service)

    def _batches(self) -> Iterator[tuple[Queue, DeadBatch]]:
        """The dead batches of all replicas' folders."""
        with _telling_of_the_disk():
            for path in _queues_in(spool_folder(self.place, self.service, self.url)):
                queue = Queue(path, codec="raw")
                for batch in queue.dead:
                    yield queue, batch

    def _find_batch(self, letter_id: str) -> tuple[Queue, DeadBatch] | None:
        return next((found for found in self._batches() if _id_of(found[1]) == letter_id), None)

    def _with_batch(self, letter_id: str, use: Callable[[Queue, str], None]) -> bool:
        found = self._find_batch(letter_id)
        if found is None:
            return False
        try:
            with _telling_of_the_disk():
                use(found[0], found[1].name)
        except BatchNotFound:
            return False  # Somebody else was faster.
        return True


def _is_entry(letter_id: str) -> bool:
    """Whether it may be that of an entry, whose two numbers have 64 bits."""
    is_one = _ENTRY.fullmatch(letter_id) is not None
    return is_one and all(int(part) < 2**64 for part in letter_id.split("-"))


def _queues_in(folder: Path) -> Iterator[Path]:
    if not folder.exists():
        return
    for slot in sorted(folder.iterdir()):
        if slot.name.isdecimal():
            yield from sorted(path for path in slot.iterdir() if path.is_dir())


def _letter_of_entry(entry: DeadEntry) -> Letter:
    message = Message(entry.data, entry.message_id or None, entry.channel)
    at = entry.at_ms / 1000
    return Letter(entry.entry, "inbox", entry.reason, entry.deliveries, at, [message])


def _letter_of_batch(queue: Queue, batch: DeadBatch) -> Letter | None:
    """None when it is gone by now."""
    try:
        with _telling_of_the_disk():
            events = queue.dead.events(batch.name)
            # It was written when it failed for the last time.
            at = (queue.path / batch.name).stat().st_mtime
    except BatchNotFound:
        return None
    messages = [_message_of(event) for event in events]
    return Letter(_id_of(batch), "disk", batch.reason, batch.failures, at, messages)


def _message_of(event: bytes) -> Message:
    try:
        parcel = open_parcel(event)
    except BadMessage:
        return Message(event, None, None)
    channel = None if parcel.route.startswith("action:") else parcel.channel
    return Message(parcel.data, parcel.message_id, channel)


def _id_of(batch: DeadBatch) -> str:
    """The part of the file's name that no other batch has: a UUID."""
    return batch.name.removesuffix(".db").rpartition("_")[2]


@contextmanager
def _telling_of_the_disk() -> Iterator[None]:
    try:
        yield
    except BatchNotFound:
        raise
    except (TurboQueueError, OSError) as error:
        raise DaebusError(f"the dead letters on disk cannot be used: {error}") from None
