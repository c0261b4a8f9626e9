"""A running pipeline as metrics for Prometheus (the extra `metrics`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from turbo_queue.metrics import Collector, Families, Metric
from turbo_queue.pipeline.condition import Condition

_COUNTERS = {
    "read": "Events that were read from the source.",
    "handled": "Events that the work is done with, or that will not be tried again.",
    "written": "Events that the sink has taken for good.",
    "retried": "Tries that failed and are repeated.",
    "dead": "Events that were put among the dead letters.",
}


class PipelineCollector(Collector):
    """Turns the condition of a pipeline into metrics.

    Args:
        name: The value of the label `pipeline`.
        look: Gives its condition; safe from any thread.
    """

    def __init__(self, name: str, look: Callable[[], Condition]) -> None:
        self._name = name
        self._look = look

    def collect(self) -> Iterable[Metric]:
        """Look at it now."""
        families, seen = Families("turbo_queue_pipeline_"), self._look()
        counts, name = seen.counts, self._name
        for field, text in _COUNTERS.items():
            families.counter(f"events_{field}", text, getattr(counts, field), pipeline=name)
        families.gauge(
            "events_waiting", "Events in the folder, about.", counts.waiting, pipeline=name
        )
        families.counter(
            "restarts", "Processes that ended unasked.", counts.restarts, pipeline=name
        )
        for crew in seen.crews:
            labels = {"pipeline": name, "role": crew.role}
            families.gauge("processes", "Processes that are ready.", crew.up, **labels)
        is_ready = not seen.why_not_ready
        families.gauge("ready", "Whether it does its work.", is_ready, pipeline=name)
        return families
