"""Pipelines: from a source through many processes to a sink, and nothing is lost on the way."""

from turbo_queue.pipeline.counts import Counts
from turbo_queue.pipeline.outcome import ExitCode, Outcome
from turbo_queue.pipeline.pipeline import Pipeline
from turbo_queue.pipeline.plan import Work
from turbo_queue.records import Header, Record

__all__ = ["Counts", "ExitCode", "Header", "Outcome", "Pipeline", "Record", "Work"]
