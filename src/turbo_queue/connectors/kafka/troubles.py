"""What a client reports beside its calls: brokers that do not answer, refused passwords."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any, NoReturn, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from turbo_queue.errors import SettingsError, TurboQueueError

logger = logging.getLogger(__name__)

_Client = TypeVar("_Client", Consumer, Producer)

#: How long opening waits for an answer, in seconds.
OPEN_TIMEOUT_S = 5.0

#: The same trouble is logged once in so many seconds.
LOG_EVERY_S = 30.0

_NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001 - public

#: These pass by themselves; librdkafka goes on trying.
_PASSING = {
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_TOPIC_OR_PART,  # It may be made again.
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
    KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - the group is joined again
}


class Troubles:
    """Logs what a client reports, once; remembers what it will never get over.

    Args:
        kind: What is raised.
        what: "reading" or "writing", and what.
    """

    def __init__(self, kind: type[TurboQueueError], what: str) -> None:
        self._kind = kind
        self._what = what
        self._logged: dict[int, float] = {}
        self._last: KafkaError | None = None
        self._fatal: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        """Log it, unless the same was logged just now. Is librdkafka's `error_cb`, too."""
        self._last = error
        if error.fatal():
            self._fatal = error
        now = monotonic()
        if now < self._logged.get(error.code(), 0.0):
            return
        self._logged[error.code()] = now + LOG_EVERY_S
        logger.warning(
            "%s: %s (%s)",
            self._what,
            error.str(),
            error.name(),
            extra={"event": "kafka.trouble"},
        )

    def passes(self, error: KafkaError) -> bool:
        """Whether librdkafka gets over it by itself."""
        return not error.fatal() and (error.retriable() or error.code() in _PASSING)

    def check(self) -> None:
        """Raise what the client will never get over."""
        if self._fatal is not None:
            self.fail(self._fatal)

    def fail(self, error: KafkaError | BaseException | str) -> NoReturn:
        """Raise with this reason, and with what the client has reported last if it tells more."""
        reason = _text(error)
        if self._last is not None and self._last.str() not in reason:
            reason = f"{reason}; before that: {_text(self._last)}"
        raise self._kind(f"{self._what} failed: {reason}")


def opened(client: type[_Client], settings: dict[str, Any], troubles: Troubles) -> _Client:
    """A client with these settings; its logs go to this package's.

    Raises:
        SettingsError: librdkafka does not take a setting.
    """
    try:
        return client({**settings, "error_cb": troubles.note, "logger": logger})
    except (KafkaException, TypeError, ValueError) as error:
        raise SettingsError(f"Kafka's client does not take its settings: {_text(error)}") from error


def check_topics(
    client: Consumer | Producer, topics: list[str], bootstrap: str, troubles: Troubles
) -> None:
    """See whether a broker answers, and has these topics.

    Raises:
        SourceFailed: no broker answers, or a topic is not there or not allowed.
        SinkFailed: the same, for sinks.
    """
    for topic in topics:
        try:
            found = client.list_topics(topic, timeout=OPEN_TIMEOUT_S).topics.get(topic)
        except KafkaException as error:
            troubles.fail(
                f"no broker answers at {bootstrap} within {OPEN_TIMEOUT_S:.0f} s "
                f"({_text(error)}). Start it, or give its address as bootstrap_servers or in "
                f"KAFKA_BOOTSTRAP"
            )
        error_of_topic = found.error if found else None
        if found is None or (error_of_topic and error_of_topic.code() in _NO_TOPIC):
            troubles.fail(f"there is no topic {topic!r} at {bootstrap}; create it first")
        if error_of_topic and not troubles.passes(error_of_topic):
            troubles.fail(error_of_topic)


def _text(error: KafkaError | BaseException | str) -> str:
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        error = error.args[0]
    if isinstance(error, KafkaError):
        return f"{error.str()} ({error.name()})"
    return str(error)
