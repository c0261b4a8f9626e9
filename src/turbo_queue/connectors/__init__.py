"""Sources and sinks of pipelines, and how to add one's own."""

from turbo_queue.connectors.interface import Intake, Reader, Refused, Sink, Source, Writer
from turbo_queue.records import Header, Record

__all__ = ["Header", "Intake", "Reader", "Record", "Refused", "Sink", "Source", "Writer"]
