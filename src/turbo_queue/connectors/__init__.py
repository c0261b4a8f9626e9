"""Sources and sinks of pipelines, how to add one's own, and how to use one without a pipeline."""

from turbo_queue.connectors.emptying import empty
from turbo_queue.connectors.filling import fill
from turbo_queue.connectors.interface import Intake, Reader, Refused, Sink, Source, Writer
from turbo_queue.records import Header, Record

__all__ = [
    "Header",
    "Intake",
    "Reader",
    "Record",
    "Refused",
    "Sink",
    "Source",
    "Writer",
    "empty",
    "fill",
]
