"""Sources and sinks of pipelines, how to add one's own, and how to use one without a pipeline."""

from turbo_queue.connectors.emptying import empty
from turbo_queue.connectors.filling import fill
from turbo_queue.connectors.interface import Intake, Reader, Refused, Sink, Source, Writer
from turbo_queue.connectors.iterables import IterableSource
from turbo_queue.connectors.json_lines import JsonLinesSink, JsonLinesSource
from turbo_queue.connectors.queues import QueueSink, QueueSource
from turbo_queue.records import Header, Record

__all__ = [
    "Header",
    "Intake",
    "IterableSource",
    "JsonLinesSink",
    "JsonLinesSource",
    "QueueSink",
    "QueueSource",
    "Reader",
    "Record",
    "Refused",
    "Sink",
    "Source",
    "Writer",
    "empty",
    "fill",
]
