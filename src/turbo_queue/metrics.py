"""Queues as metrics for Prometheus, read from their folders at each scrape (the extra `metrics`).

Nothing is counted here: whoever puts or takes events knows nothing of this.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TypeVar

try:
    from prometheus_client import REGISTRY, generate_latest
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import CONTENT_TYPE_LATEST
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "metrics need the package prometheus-client; install it with: pip install 'daebus[metrics]'"
    ) from error

from turbo_queue.folder import Folder
from turbo_queue.monitor import Monitor, QueueStats
from turbo_queue.queue import Queue
from turbo_queue.states import State
from turbo_queue.status_port import Answer, Page

__all__ = ["Collector", "Families", "Metric", "QueueCollector", "exposition", "metrics_page"]

_Kind = TypeVar("_Kind", GaugeMetricFamily, CounterMetricFamily, HistogramMetricFamily)
_Family = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily

#: The states whose events can be counted; those of loading batches are in their producers' memory.
_COUNTED = [state for state in State if state is not State.LOADING]


class Families:
    """Metrics by name, filled one sample at a time.

    Args:
        prefix: What all names begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._families: dict[str, _Family] = {}

    def gauge(self, name: str, text: str, value: float, **labels: str) -> None:
        """Add a sample of what goes up and down."""
        self._of(GaugeMetricFamily, name, text, labels).add_metric(_values(labels), value)

    def counter(self, name: str, text: str, value: float, **labels: str) -> None:
        """Add a sample of what only goes up; the name gets `_total` at its end."""
        self._of(CounterMetricFamily, name, text, labels).add_metric(_values(labels), value)

    def histogram(
        self, name: str, text: str, buckets: Sequence[tuple[str, int]], total: float, **labels: str
    ) -> None:
        """Add samples of a distribution.

        Args:
            name: Its name.
            text: What it is.
            buckets: Each upper bound, `+Inf` at last, and how many are not above it.
            total: The sum of all.
            labels: Names and values.
        """
        family = self._of(HistogramMetricFamily, name, text, labels)
        family.add_metric(_values(labels), buckets, total)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._families.values())

    def _of(self, kind: type[_Kind], name: str, text: str, labels: Iterable[str]) -> _Kind:
        family = self._families.get(name)
        if not isinstance(family, kind):
            family = kind(self._prefix + name, text, labels=list(labels))
            self._families[name] = family
        return family


def _values(labels: Mapping[str, str]) -> list[str]:
    """Those of some labels; a folder's name may hold bytes that are no text."""
    return [value.encode(errors="backslashreplace").decode() for value in labels.values()]


class QueueCollector(Collector):
    """Turns what is in some queues into metrics.

    Args:
        queues: By the value of their label `queue`.

    Example:
        >>> families = QueueCollector({"orders": Queue(folder)}).collect()
        >>> {family.name: family for family in families}["turbo_queue_events"].samples[0].value
        3
    """

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        self._folders = {name: Folder(queue.path) for name, queue in queues.items()}
        self._monitors = {name: Monitor(folder) for name, folder in self._folders.items()}
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """Look at the queues now."""
        families = Families("turbo_queue_")
        for name, monitor in self._monitors.items():
            stats = self._look(name, monitor)
            is_up = stats is not None
            families.gauge("up", "Whether the queue is there and can be read.", is_up, queue=name)
            if stats is not None:
                _add_queue(families, name, stats)
                _add_traffic(families, name, stats)
        return families

    def _look(self, name: str, monitor: Monitor) -> QueueStats | None:
        if not self._folders[name].exists():
            return None
        try:
            with self._lock:  # Two may scrape at once.
                return monitor.look()
        except OSError:
            return None


def _add_queue(families: Families, queue: str, stats: QueueStats) -> None:
    for state in State:
        found = getattr(stats, state.value)
        labels = {"queue": queue, "state": state.value}
        families.gauge("batches", "Batches in this state.", found.batches, **labels)
        families.gauge(
            "oldest_batch_age_seconds",
            "Age of the oldest batch, 0 without one.",
            found.oldest_s,
            **labels,
        )
        if state in _COUNTED:
            families.gauge("events", "Events that are not finished.", found.events, **labels)
    families.gauge(
        "abandoned_batches",
        "Batches whose owner is dead and that wait for recovery.",
        stats.loading.abandoned + stats.chosen.abandoned,
        queue=queue,
    )
    families.gauge(
        "bad_files", "Files that are no batches, or damaged ones.", stats.bad_files, queue=queue
    )
    families.gauge("producers", "Producers that live.", len(stats.producers), queue=queue)
    families.gauge("consumers", "Consumers that live.", len(stats.consumers), queue=queue)
    families.gauge("closed", "Whether the queue was closed.", stats.is_closed, queue=queue)


def _add_traffic(families: Families, queue: str, stats: QueueStats) -> None:
    traffic = stats.traffic
    for name, text, value in (
        ("events_in", "Events that were made ready.", traffic.events_in),
        ("events_out", "Events that were finished.", traffic.events_out),
        ("batches_in", "Batches that were made ready.", traffic.batches_in),
        ("batches_out", "Batches that were finished.", traffic.batches_out),
    ):
        families.counter(name, text, value, queue=queue)


class _Together(Collector):
    def __init__(self, *collectors: Collector) -> None:
        self._collectors = collectors

    def collect(self) -> Iterable[Metric]:
        for collector in self._collectors:
            yield from collector.collect()


def exposition(*collectors: Collector) -> bytes:
    """What these collect, in the text format of Prometheus."""
    return generate_latest(_Together(*collectors))


def metrics_page(*collectors: Collector) -> Page:
    """The page of these, and of the process itself.

    The metrics that the program has made with prometheus_client are there, too, such as those of
    the process's memory and CPU time.
    """

    def page() -> Answer:
        text = exposition(*collectors, REGISTRY)
        return Answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, text)

    return page
