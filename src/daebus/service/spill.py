"""The messages of one runner that wait on disk: written in blocks, taken back in their order.

    <spool>/spill-thread/         what memory had no room for
            spill-thread-first/   what was still in memory when the service stopped: older than that
            spill-thread-dead/    what no handler takes any more, among the queue's dead batches
            work/                 what waited for processes, when the service has none any more

Each of these is a turbo queue, and each of its events a block of messages: one event is put as a
whole or not at all, so that a full disk never leaves a part of a block behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from daebus.errors import BadMessage, SettingsError
from daebus.logs import Incidents, get_logger
from daebus.service.exchange import Delivery, Exchange
from daebus.service.parcels import Parcel, open_parcel, pack
from daebus.service.routes import Place
from daebus.service.spilled import Block, Spilled
from daebus.service.spool import WORK, Spool
from turbo_queue import (
    Batch,
    BatchDamaged,
    BatchSettled,
    Consumer,
    Producer,
    Queue,
    TurboQueueError,
)

log = get_logger(__name__)

#: Most messages of a block. A service that is killed repeats those of the blocks that it has begun;
#: a file for each 250 messages costs less than 1 µs a message.
BLOCK_MESSAGES = 250

#: … and the bytes of messages with which it is full, too.
BLOCK_BYTES = 1024 * 1024

#: What turbo_queue allows at most: one block is one event, and holds one large message at least.
_MAX_EVENT_BYTES = 512 * 1024 * 1024

#: Most blocks in hand. Each holds a descriptor, of which a process often has 1,024, and a trickle
#: makes blocks of few messages.
MAX_IN_HAND = 200

#: How soon the disk is tried again after it refused, in seconds.
RETRY_S = 0.5

#: A batch whose service was killed is never given up: each kill counts as its failure, and what
#: waits behind the message that was being handled is not to blame.
_NEVER = 1_000_000

#: The runner of processes, whose queue is read when the service has none any more.
PROCESSES = Place.PROCESS.name.lower()

#: Makes an exchange of a message that waited.
Unpack = Callable[[Parcel, Delivery], Exchange]


class Spill:
    """What waits on disk for one runner.

    `take` is called by one thread, `write` by one at a time; what is taken is finished by any.

    Args:
        spool: where it waits.
        names: the runner's own name, then those of runners that the service has no more.
        unpack: makes exchanges of what is taken.
        incidents: where what goes wrong is counted.
    """

    def __init__(
        self, spool: Spool, names: Sequence[str], unpack: Unpack, incidents: Incidents
    ) -> None:
        self._spool = spool
        self._names = names
        self._unpack = unpack
        self._incidents = incidents
        #: What is read, oldest first; the last one is what `write` writes to, once that is open.
        self._unread: deque[Consumer] = deque()
        self._opened: list[Consumer] = []
        self._producer: Producer | None = None
        self._in_hand: set[Batch] = set()
        self._retry_at = 0.0

    @property
    def folder(self) -> Path:
        """Where it waits.

        Raises:
            SettingsError: there is no such place.
        """
        return self._spool.path / f"spill-{self._names[0]}"

    def open_left(self) -> tuple[int, int]:
        """Open what earlier runs have left; give how many messages, and how many bytes.

        Raises:
            SettingsError: the folder cannot be used.
        """
        count = size = 0
        try:
            for path in self._left():
                queue = _queue(path)
                queue.reopen()  # That of processes is closed by a stop.
                queue.recover()
                before = count
                for block in queue.peek():
                    sizes = _sizes(block)
                    count += len(sizes)
                    size += sum(sizes)
                if count > before and path != self.folder:
                    self._read(queue.consumer())
            self._open()
        except (TurboQueueError, OSError) as error:
            raise SettingsError(f"{self.folder} cannot be used: {error}") from error
        return count, size

    def write(self, exchanges: Collection[Exchange], *, is_last: bool = False) -> bool:
        """Write messages, in order, behind all others; False when the disk refuses them.

        Args:
            exchanges: a block of them.
            is_last: try it also if the disk has refused just now.
        """
        if monotonic() < self._retry_at and not is_last:
            return False
        try:
            self._put(self._producer or self._open(), exchanges)
        except (SettingsError, TurboQueueError) as error:
            self._refuse(error)
            return False
        return True

    def may_take(self) -> bool:
        """Whether few enough blocks are in hand to take another one."""
        return len(self._in_hand) < MAX_IN_HAND

    def take(self) -> list[Exchange]:
        """The messages of the oldest block; none when nothing waits.

        Raises:
            OSError: the system refuses something in the folder.
        """
        while self._unread:
            consumer = self._unread[0]
            if (batch := consumer.take(timeout=0)) is not None:
                if exchanges := self._exchanges(batch):
                    return exchanges
            elif len(self._unread) > 1 or self._producer is None:
                self._unread.popleft()  # Closed at the end: what it gave may still be in hand.
            else:
                break
        return []

    def keep(self, exchanges: Sequence[Exchange]) -> list[Exchange]:
        """Write what a stop leaves in memory, to be read before all else.

        Returns:
            What was in memory alone and is lost, because the disk refuses it.
        """
        rest = deque(exchanges)
        try:
            queue = _queue(self.folder.with_name(f"{self.folder.name}-first"))
            with queue.consumer() as consumer, queue.producer() as producer:
                # What is there is younger, but names sort by time: so it is written once more.
                while (batch := consumer.take(timeout=0)) is not None:
                    rest += self._exchanges(batch)
                while rest:
                    block = list(_first_block(rest))
                    self._put(producer, block)
                    for _ in block:
                        rest.popleft()
        except (SettingsError, TurboQueueError) as error:
            self._refuse(error)
        return [exchange for exchange in rest if exchange.delivery is None]

    def close(self) -> None:
        """Give back what was taken and not finished, and close all."""
        for end in (self._producer, *self._opened):
            try:
                if end is not None:
                    end.close()
            except TurboQueueError as error:
                self._incidents.report("spill_error", f"closing what waits on disk: {error}")

    def _left(self) -> Iterator[Path]:
        """The folders in which something may be left, oldest first."""
        parts = [f"spill-{name}{part}" for name in self._names for part in ("-dead", "-first", "")]
        if PROCESSES in self._names[1:]:
            parts.insert(0, WORK)
        for slot in (self._spool.path, *self._spool.adopt()):
            for part in parts:
                if (slot / part).is_dir():
                    yield slot / part

    def _open(self) -> Producer:
        queue = _queue(self.folder)
        producer = queue.producer()
        try:
            consumer = queue.consumer()
        except TurboQueueError:
            producer.close()
            raise
        self._producer = producer  # Before the consumer, which is thrown away without it.
        self._read(consumer)
        return producer

    def _read(self, consumer: Consumer) -> None:
        self._opened.append(consumer)
        self._unread.append(consumer)

    def _put(self, producer: Producer, exchanges: Collection[Exchange]) -> None:
        producer.put([pack(exchange) for exchange in exchanges], block=False)
        for exchange in exchanges:
            if isinstance(exchange.delivery, Spilled):
                exchange.delivery.moved()

    def _refuse(self, error: Exception) -> None:
        self._retry_at = monotonic() + RETRY_S
        self._incidents.report(
            "spill_failed",
            f"messages cannot wait on disk, so those that find no room in memory are refused: "
            f"{error}. Make room, or name another folder with Daebus(spool=…) or DAEBUS_SPOOL",
        )

    def _exchanges(self, batch: Batch) -> list[Exchange]:
        """The messages of a batch; those that no handler takes are set aside."""
        try:
            messages = _messages(batch)
        except BatchDamaged as error:
            batch.set_aside(error.reason)
            return []
        if not messages:
            batch.acknowledge()
            return []
        self._in_hand.add(batch)
        block = Block(
            len(messages),
            partial(self._settled, batch),
            lambda number, reason: self._bury([_messages(batch)[number]], reason),
        )
        exchanges, lost = [], {}
        for number, data in enumerate(messages):
            try:
                parcel = open_parcel(data)
                exchange = self._unpack(parcel, Spilled(block, number, parcel))
            except BadMessage as error:
                lost[number], reason = data, error.reason
            else:
                exchange.request.delivery_count += batch.failures
                exchanges.append(exchange)
        if lost and self._bury(list(lost.values()), reason):
            for number in lost:
                block.settle(number)
        return exchanges

    def _settled(self, batch: Batch) -> None:
        """All messages of a batch are finished, or wait elsewhere."""
        self._in_hand.discard(batch)
        try:
            batch.acknowledge()
        except BatchSettled:
            pass  # The service has stopped meanwhile, and given it back.
        except TurboQueueError as error:
            self._incidents.report("spill_error", f"messages may be handled twice: {error}")

    def _bury(self, messages: list[bytes], reason: str) -> bool:
        """Keep what no handler takes any more, to be looked at or put back by hand."""
        queue = _queue(self.folder.with_name(f"{self.folder.name}-dead"), max_failures=1)
        try:
            with queue.producer() as producer, queue.consumer(stop_when_empty=True) as consumer:
                producer.put(messages, block=False)
                for batch in consumer.batches():
                    batch.give_back(reason)
        except TurboQueueError as error:
            self._incidents.report("spill_error", f"messages wait for the next start: {error}")
            return False
        log.error(
            "%d messages that waited on disk cannot be handled: %s. They are kept: see "
            "'turbo-queue dead list %s'; after a 'dead retry' the next start handles them",
            len(messages),
            reason,
            queue.path,
            extra={"event": "spill.dead"},
        )
        return True


def _queue(path: Path, max_failures: int = _NEVER) -> Queue:
    return Queue(
        path,
        codec="msgpack",
        max_events_per_file=1,
        max_batch_bytes=_MAX_EVENT_BYTES,
        max_event_bytes=_MAX_EVENT_BYTES,
        max_failures=max_failures,
    )


def _messages(blocks: Iterable[Any]) -> list[bytes]:
    """The messages of blocks.

    Raises:
        BatchDamaged: somebody else has put something there.
    """
    messages = []
    for block in blocks:
        if isinstance(block, bytes):
            return _of_a_process(block)
        if not isinstance(block, list) or not all(isinstance(each, bytes) for each in block):
            raise BatchDamaged("it holds something else than messages of a service")
        messages += block
    if not messages:
        raise BatchDamaged("it holds no messages")
    return messages


def _of_a_process(data: bytes) -> list[bytes]:
    """A message that waited for a worker process, in a batch of its own.

    Raises:
        BatchDamaged: it is none.
    """
    try:
        # What is stored elsewhere comes again from there.
        return [] if open_parcel(data).is_stored else [data]
    except BadMessage as error:
        raise BatchDamaged(error.reason) from error


def _sizes(block: Any) -> list[int]:
    try:
        return list(map(len, _messages([block])))
    except BatchDamaged:
        return []  # Set aside when its turn comes.


def _first_block(exchanges: Collection[Exchange]) -> Iterator[Exchange]:
    """As many of the first messages as make a block."""
    size = 0
    for number, exchange in enumerate(exchanges):
        if number == BLOCK_MESSAGES or size >= BLOCK_BYTES:
            return
        size += exchange.size_bytes
        yield exchange
