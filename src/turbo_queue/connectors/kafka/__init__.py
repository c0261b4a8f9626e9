"""Kafka topics as sources and sinks, over confluent-kafka (the extra `kafka`)."""

try:
    import confluent_kafka as _library  # noqa: F401 - whether it is there
except ImportError as error:
    raise ImportError(
        "Kafka needs the package confluent-kafka; install it with: pip install 'daebus[kafka]'"
    ) from error

from turbo_queue.connectors.kafka.sink import KafkaSink
from turbo_queue.connectors.kafka.source import KafkaSource

__all__ = ["KafkaSink", "KafkaSource"]
