"""Reads Kafka topics as a member of a consumer group. Used by one thread.

librdkafka calls back (partitions come and go, commits are answered) only from within `consume()`
and `poll()`, so in the same thread. What `consume()` has returned counts as read for librdkafka,
so all of it is handed on, also what came just before its partition was taken away. A callback that
raises would throw away what the call has read; none does.
"""

from __future__ import annotations

import logging
import threading
from math import inf
from time import monotonic
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from turbo_queue.connectors.interface import Intake, Reader
from turbo_queue.connectors.kafka.positions import Partition, Positions
from turbo_queue.connectors.kafka.troubles import Troubles, check_topics, opened
from turbo_queue.errors import SourceFailed
from turbo_queue.records import Record

logger = logging.getLogger(__name__)

#: Rests up to so many seconds do without a pause of the partitions, which would throw away what
#: librdkafka has fetched in advance.
UNPAUSED_REST_S = 1.0

#: A commit that has failed is tried again after so many seconds.
COMMIT_RETRY_S = 1.0

#: How long closing waits for the answer to the last commit, in seconds.
LAST_COMMIT_S = 2.0

#: … and then for the group to let it go.
LEAVE_S = 1.5


#: While the group shares its partitions anew, no commit is taken.
_REBALANCING = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION}


class KafkaReader(Reader):
    """Reads topics; see `KafkaSource.open`.

    Args:
        settings: Of librdkafka, all of them.
        topics: Which.
        intake: Whose `flush` makes safe what was read, before partitions are given away.
    """

    def __init__(self, settings: dict[str, Any], topics: list[str], intake: Intake) -> None:
        self._intake = intake
        self._positions = Positions()
        self._troubles = Troubles(SourceFailed, f"reading {', '.join(topics)} from Kafka")
        self._early: list[Message] = []
        self._resting_since: float | None = None
        self._is_paused = False
        self._are_new_to_pause = False
        self._commits_under_way = 0
        self._commit_at = inf
        self._is_closed = False
        named = [topic for topic in topics if not topic.startswith("^")]
        consumer = opened(Consumer, {**settings, "on_commit": self._on_commit}, self._troubles)
        self._consumer: Consumer | None = consumer
        try:
            check_topics(consumer, named, settings["bootstrap.servers"], self._troubles)
            consumer.subscribe(
                topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        except BaseException:
            self.close()
            raise

    def read(self, most: int, timeout_s: float) -> list[Record]:
        """The next events of all partitions that are ours.

        Raises:
            SourceFailed: it cannot be read, and librdkafka does not get over it by itself.
        """
        self._resting_since = None
        if self._is_paused:
            self._resume()
        messages = self._taken_early(most) or self._consumed(most, timeout_s)
        if monotonic() >= self._commit_at:
            self._send_commit()
        return self._records(messages) if messages else []

    def commit(self) -> None:
        """Let the group know it; the answer is not waited for."""
        self._positions.all_is_safe()
        if not self._commits_under_way:
            self._send_commit()

    def rest(self, timeout_s: float) -> None:
        """Read nothing, and stay a member of the group: after a second with paused partitions."""
        now = monotonic()
        if self._resting_since is None:
            self._resting_since = now
        if now - self._resting_since < UNPAUSED_REST_S:
            self._intake.stopping.wait(timeout_s)
            return
        if not self._is_paused or self._are_new_to_pause:
            self._pause()
        # Partitions that are assigned in this call are not paused yet, and give events.
        self._early += self._valid(self._called(1000, timeout_s))
        if monotonic() >= self._commit_at:
            self._send_commit()

    def close(self) -> None:
        """Wait for the last commit and to leave the group, for some seconds each."""
        consumer, self._is_closed = self._consumer, True
        if consumer is None:
            return
        try:
            self._finish_commits(consumer)
        finally:
            self._consumer = None
            # librdkafka waits without an end for a broker that is away. The group misses this
            # member then after `session.timeout.ms`.
            leaving = threading.Thread(
                target=consumer.close, name="turbo-queue-kafka-leave", daemon=True
            )
            leaving.start()
            leaving.join(LEAVE_S)

    def _consumed(self, most: int, timeout_s: float) -> list[Message]:
        # A call for many waits until it has as many; so it is asked for one, and for what is there.
        if messages := self._called(most, 0):
            return self._valid(messages)
        if not (messages := self._called(1, timeout_s)):
            self._troubles.check()
            return []
        return self._valid(messages + self._called(most - 1, 0) if most > 1 else messages)

    def _called(self, most: int, timeout_s: float) -> list[Message]:
        try:
            return self._opened().consume(most, timeout_s)
        except (KafkaException, RuntimeError) as error:
            self._troubles.fail(error)

    def _opened(self) -> Consumer:
        if self._consumer is None:
            raise SourceFailed("this reader was closed; open the source again")
        return self._consumer

    def _taken_early(self, most: int) -> list[Message]:
        messages, self._early = self._early[:most], self._early[most:]
        return messages

    def _valid(self, messages: list[Message]) -> list[Message]:
        if not any(map(Message.error, messages)):
            return messages
        for message in messages:
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                continue
            if not self._troubles.passes(error):
                self._troubles.fail(error)
            self._troubles.note(error)
        return [message for message in messages if message.error() is None]

    def _records(self, messages: list[Message]) -> list[Record]:
        """What they hold. For speed, their methods are called by `map`."""
        places: list[Any] = list(
            zip(map(Message.topic, messages), map(Message.partition, messages), strict=True)
        )
        offsets: list[Any] = list(map(Message.offset, messages))
        records = [
            Record(
                value,
                key,
                tuple(headers) if headers else (),
                moment if kind else None,
                f"{topic}[{number}]@{offset}",
            )
            for value, key, headers, (kind, moment), (topic, number), offset in zip(
                map(Message.value, messages),
                map(Message.key, messages),
                map(Message.headers, messages),
                map(Message.timestamp, messages),
                places,
                offsets,
                strict=True,
            )
        ]
        self._positions.note_read(dict(zip(places, offsets, strict=True)))
        return records

    def _pause(self) -> None:
        self._is_paused, self._are_new_to_pause = True, False
        consumer = self._opened()
        consumer.pause(consumer.assignment())

    def _resume(self) -> None:
        self._is_paused = self._are_new_to_pause = False
        consumer = self._opened()
        consumer.resume(consumer.assignment())

    def _send_commit(self) -> None:
        self._commit_at = inf
        offsets = [
            TopicPartition(topic, number, offset)
            for (topic, number), offset in self._positions.uncommitted().items()
        ]
        if not offsets:
            return
        try:
            self._opened().commit(offsets=offsets, asynchronous=True)
            self._commits_under_way += 1
        except KafkaException as error:
            self._commit_failed(error)

    def _finish_commits(self, consumer: Consumer) -> None:
        until = monotonic() + LAST_COMMIT_S
        if not self._commits_under_way:
            self._send_commit()
        while self._commits_under_way and monotonic() < until:
            consumer.poll(0.1)  # What it reads is not handed on, and so is read again.
            if self._commit_at == 0:
                self._send_commit()

    def _commit_failed(self, error: KafkaError | KafkaException) -> None:
        self._commit_at = monotonic() + COMMIT_RETRY_S
        is_rebalancing = isinstance(error, KafkaError) and error.code() in _REBALANCING
        logger.log(
            logging.DEBUG if is_rebalancing else logging.WARNING,
            "offsets are not committed yet: %s",
            error,
            extra={"event": "kafka.commit_failed"},
        )

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._commits_under_way -= 1
        failed = error
        for each in partitions:
            if each.error is not None:
                failed = failed or each.error
            elif error is None:
                self._positions.note_committed((each.topic, each.partition), each.offset)
        if failed is not None:
            self._commit_failed(failed)
        elif not self._commits_under_way and self._positions.uncommitted():
            self._commit_at = 0  # More was read meanwhile.

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._positions.assigned(_names(partitions))
        self._are_new_to_pause = True

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Make safe and commit what was read; librdkafka waits for the answer before they go."""
        if not self._is_closed:
            try:
                self._intake.flush()
                self._positions.all_is_safe()
                self._send_commit()
            except Exception as error:  # noqa: BLE001 - see above; others read it once more
                logger.warning(
                    "what was read of partitions that are given away is not safe yet, and will be "
                    "read again by their next reader: %s",
                    error,
                    extra={"event": "kafka.revoke_failed"},
                )
        self._positions.forget(_names(partitions))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        logger.warning(
            "%d partitions were lost to other members of the group; what was read of them since "
            "the last commit is read again",
            len(partitions),
            extra={"event": "kafka.partitions_lost"},
        )
        self._positions.forget(_names(partitions))


def _names(partitions: list[TopicPartition]) -> list[Partition]:
    return [(each.topic, each.partition) for each in partitions]
