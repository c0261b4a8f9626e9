"""Writes to a Kafka topic, and waits for the broker's confirmations. Used by one thread."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from types import MethodType
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from turbo_queue.connectors.interface import Refused, Writer
from turbo_queue.connectors.kafka.troubles import Troubles, check_topics, opened
from turbo_queue.errors import SinkFailed
from turbo_queue.records import Record

logger = logging.getLogger(__name__)

#: How long one wait for confirmations takes at most, in seconds; then it is looked whether the end
#: is wished for.
STEP_S = 0.2

#: Once the end is wished for, it is waited so long for a broker that confirms nothing, in seconds.
SILENCE_S = 2.0

#: Whichever partition the key, or chance, leads to (librdkafka's RD_KAFKA_PARTITION_UA).
_ANY = -1

#: What will not become better by writing it again …
_PERMANENT = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    KafkaError.POLICY_VIOLATION,
}

#: … and what is said of the innocent in the same request.
_INNOCENT = {KafkaError._INVALID_DIFFERENT_RECORD}  # noqa: SLF001 - public


class KafkaWriter(Writer):
    """Writes to a topic; see `KafkaSink.open`.

    Args:
        settings: Of librdkafka, all of them.
        topic: Which.
        stopping: Ends waiting for a broker that does not answer.
    """

    def __init__(self, settings: dict[str, Any], topic: str, stopping: threading.Event) -> None:
        self._topic = topic
        self._stopping = stopping
        self._troubles = Troubles(SinkFailed, f"writing {topic} to Kafka")
        self._refused: list[Refused] = []
        self._failed: list[tuple[Record, KafkaError]] = []
        self._progress_at = monotonic()
        self._waiting = 0
        self._producer: Producer | None = opened(Producer, settings, self._troubles)
        failed = self._failed

        def on_report(record: Record, error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append((record, error))

        self._on_report = on_report
        try:
            check_topics(self._producer, [topic], settings["bootstrap.servers"], self._troubles)
        except BaseException:
            self.close()
            raise

    def write(self, records: list[Record]) -> None:
        """Hand these to librdkafka; it waits while that has too many.

        Raises:
            SinkFailed: they cannot be written now.
        """
        producer = self._opened()
        for record in records:
            try:
                self._produce(producer, record)
            except (BufferError, KafkaException, TypeError, ValueError, OverflowError):
                self._produce_or_refuse(producer, record)
        producer.poll(0)

    def flush(self) -> list[Refused]:
        """Return once the broker has confirmed all, but for those that it refuses for good.

        Raises:
            SinkFailed: some are not confirmed, and what was written is to be written again.
        """
        producer = self._opened()
        self._wait_for_all(producer)
        if self._failed:
            self._write_one_by_one(producer)
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """Drop what is not confirmed, and disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge(blocking=False)
            producer.flush(STEP_S)

    def _opened(self) -> Producer:
        if self._producer is None:
            raise SinkFailed("this writer was closed; open the sink again")
        return self._producer

    def _produce(self, producer: Producer, record: Record) -> None:
        # One call for each event: `produce_batch` has neither headers nor timestamps, and with a
        # callback it costs as much. The callback, which is bound to its record, is called for
        # failures only. Arguments by name would cost a third of the call.
        producer.produce(
            self._topic,
            record.value,
            record.key,
            _ANY,
            MethodType(self._on_report, record),
            None,
            record.timestamp_ms or 0,
            list(record.headers) or None,
        )

    def _produce_or_refuse(self, producer: Producer, record: Record) -> None:
        """Wait for room in librdkafka; what it does not take for another reason is refused."""
        while True:
            try:
                self._produce(producer, record)
            except BufferError:
                self._wait(producer)
                continue
            except KafkaException as error:
                if error.args[0].code() not in _PERMANENT:
                    self._troubles.fail(error)
                self._refuse(record, error.args[0].str())
            except (TypeError, ValueError, OverflowError) as error:
                self._refuse(record, str(error))
            return

    def _wait_for_all(self, producer: Producer) -> None:
        self._progress_at = monotonic()
        while self._wait(producer):
            pass

    def _wait(self, producer: Producer) -> int:
        """Wait a little for confirmations, and give the number of events without one."""
        waiting = producer.flush(STEP_S)
        self._troubles.check()
        now = monotonic()
        if waiting != self._waiting:
            self._waiting, self._progress_at = waiting, now
        elif waiting and self._stopping.is_set() and now - self._progress_at > SILENCE_S:
            self._troubles.fail(f"{waiting:,} events are not confirmed, and the end is wished for")
        return waiting

    def _write_one_by_one(self, producer: Producer) -> None:
        """Write those that failed once more, each by itself.

        A broker refuses all events of a request for one of them. Alone, each is judged by itself.
        """
        failed, self._failed[:] = list(self._failed), []
        for _, error in failed:
            if error.code() not in _PERMANENT | _INNOCENT:
                self._troubles.fail(error)
        for record, _ in failed:
            self._produce_or_refuse(producer, record)
            self._wait_for_all(producer)
            for _, error in self._failed:
                if error.code() not in _PERMANENT:
                    self._troubles.fail(error)
                self._refuse(record, error.str())
            self._failed.clear()

    def _refuse(self, record: Record, reason: str) -> None:
        logger.debug("Kafka refuses %s: %s", record.origin, reason)
        self._refused.append(Refused(record, f"Kafka refuses it: {reason}"))
