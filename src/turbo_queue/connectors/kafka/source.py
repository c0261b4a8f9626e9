"""Kafka topics as a source: what to read, and as which group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turbo_queue.connectors.formats import Format, decoder
from turbo_queue.connectors.interface import Intake, Source
from turbo_queue.connectors.kafka.client_settings import of_consumer
from turbo_queue.connectors.kafka.reader import KafkaReader
from turbo_queue.errors import SettingsError


class KafkaSource(Source):
    """Reads topics as a member of a consumer group; several readers share the partitions.

    An offset is committed only after the event is on disk: at least once.

    Args:
        topics: One topic, or several; one that begins with `^` is a regular expression.
        group: The consumer group, which keeps how far was read.
        bootstrap_servers: Brokers, `host:port`, several with commas; else those of the environment
            (`KAFKA_BOOTSTRAP`), else `localhost:9092`.
        format: What the work is given: `bytes` as they are, `text`, or what they hold as `json`.
        settings: Any settings of librdkafka, by their names.

    Raises:
        SettingsError: a setting makes no sense, or would lose events.

    Example:
        >>> from turbo_queue.connectors.kafka import KafkaSource
        >>> KafkaSource("orders", group="billing", settings={"client.id": "billing-1"})
        KafkaSource(['orders'], group='billing')
    """

    def __init__(
        self,
        topics: str | Sequence[str],
        *,
        group: str,
        bootstrap_servers: str | None = None,
        format: Format = "bytes",  # noqa: A002 - the word that users know
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.topics = [topics] if isinstance(topics, str) else list(topics)
        self.group = group
        if not self.topics or not all(isinstance(topic, str) and topic for topic in self.topics):
            raise SettingsError(f"topics is {topics!r}; name at least one topic")
        if not isinstance(group, str) or not group:
            raise SettingsError(f"group is {group!r}; name the consumer group")
        self._decode = decoder(format)
        self._settings = of_consumer(group, bootstrap_servers, settings or {})

    def open(self, intake: Intake) -> KafkaReader:
        """Join the group, and begin behind its last commit.

        Raises:
            SourceFailed: no broker answers, or there is no such topic.
            SettingsError: librdkafka does not take a setting.
        """
        return KafkaReader(self._settings, self.topics, intake)

    def decode(self, value: Any) -> Any:
        """From the bytes of an event to what the work is given."""
        return self._decode(value)

    def __repr__(self) -> str:
        return f"KafkaSource({self.topics!r}, group={self.group!r})"
