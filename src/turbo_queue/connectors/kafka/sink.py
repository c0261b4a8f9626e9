"""A Kafka topic as a sink."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from turbo_queue.connectors.formats import Format, encoder
from turbo_queue.connectors.interface import Sink
from turbo_queue.connectors.kafka.client_settings import of_producer
from turbo_queue.connectors.kafka.writer import KafkaWriter
from turbo_queue.errors import SettingsError


class KafkaSink(Sink):
    """Writes to a topic, with keys, headers and timestamps.

    An event counts as written once the broker has confirmed it: at least once.

    Args:
        topic: Which.
        bootstrap_servers: Brokers, `host:port`, several with commas; else those of the environment
            (`KAFKA_BOOTSTRAP`), else `localhost:9092`.
        format: What the work gives: `bytes` or str, `text`, or any value as `json`.
        settings: Any settings of librdkafka, by their names.

    Raises:
        SettingsError: a setting makes no sense, or would lose events.

    Example:
        >>> from turbo_queue.connectors.kafka import KafkaSink
        >>> KafkaSink("invoices", format="json", settings={"compression.type": "zstd"})
        KafkaSink('invoices')
    """

    def __init__(
        self,
        topic: str,
        *,
        bootstrap_servers: str | None = None,
        format: Format = "bytes",  # noqa: A002 - the word that users know
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(topic, str) or not topic:
            raise SettingsError(f"topic is {topic!r}; name the topic")
        self.topic = topic
        self._encode = encoder(format)
        self._settings = of_producer(bootstrap_servers, settings or {})

    def open(self, stopping: threading.Event) -> KafkaWriter:
        """Connect, and see whether the topic is there.

        Raises:
            SinkFailed: no broker answers, or there is no such topic.
            SettingsError: librdkafka does not take a setting.
        """
        return KafkaWriter(self._settings, self.topic, stopping)

    def encode(self, value: Any) -> Any:
        """From a result of the work to the bytes of an event."""
        return self._encode(value)

    def __repr__(self) -> str:
        return f"KafkaSink({self.topic!r})"
