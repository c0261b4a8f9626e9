"""The queue on disk between a service and its worker processes: open it, and tidy it at a stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from daebus.errors import SettingsError
from daebus.service.parcels import open_parcel
from daebus.service.spool import WORK, Spool
from turbo_queue import Producer, Queue
from turbo_queue.settings import LARGEST_EVENT_BYTES

#: The queue itself buries nothing: it counts, the service decides.
NEVER = 1_000_000


def open_queue(spool: Spool, max_message_bytes: int) -> tuple[Queue, Producer]:
    """The queue, with what an earlier run of this or a dead replica left in it, and its producer.

    Args:
        spool: the replica's folder.
        max_message_bytes: the largest message.

    Raises:
        SettingsError: there is no folder for it.
    """
    try:
        queue = _queue_in(spool.path, max_message_bytes)
        queue.reopen()
        producer = queue.producer()
        queue.recover()
        for folder in spool.adopt():
            if (folder / WORK).is_dir():
                _move_all(_queue_in(folder, max_message_bytes), producer)
    except (OSError, SettingsError) as error:
        raise SettingsError(
            f"handlers with workers='process' need a folder for their messages, and there is "
            f"none: {error}. Name another place with spool=... or DAEBUS_SPOOL"
        ) from error
    return queue, producer


def tidy(queue: Queue, producer: Producer, left_of: Callable[[str], list[bytes] | None]) -> None:
    """Write anew or remove what a stop has cut off, once nobody works on the queue any more.

    Args:
        queue: the queue.
        producer: its producer.
        left_of: gives, for a message's key, what is to be there instead; None: leave it.

    Raises:
        TurboQueueError: the folder cannot be used.
        BadMessage: there is something else in it.
    """
    queue.reopen()
    queue.recover()
    with queue.consumer(stop_when_empty=True) as consumer:
        for batch in list(consumer.batches()):  # Those that are left go back at the end.
            left = left_of(open_parcel(next(iter(batch))).key or "")
            if left is not None:
                producer.put_many(left)
                batch.acknowledge()


def _queue_in(folder: Path, max_message_bytes: int) -> Queue:
    return Queue(
        folder / WORK,
        codec="raw",
        # One message, one batch: they are spread evenly, and each fails for itself.
        max_events_per_file=1,
        # A request's id may be in a parcel twice more.
        max_event_bytes=min(3 * max_message_bytes + 65_536, LARGEST_EVENT_BYTES),
        max_failures=NEVER,
    )


def _move_all(queue: Queue, producer: Producer) -> None:
    """Take over the messages of a replica that has died."""
    queue.reopen()
    with queue.consumer(stop_when_empty=True) as consumer:
        for batch in consumer.batches():
            for data in batch:
                producer.put(data)
            batch.acknowledge()
