"""A service as metrics for Prometheus, made of its figures at each scrape (the extra `metrics`).

The service counts for its presence anyway; no message knows of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate, zip_longest

from daebus.bus.presence import Figures, Replica
from daebus.latency import BOUNDS_S, BUCKETS
from daebus.service.health import Vitals
from turbo_queue.metrics import Collector, Families, Metric

#: The upper bounds of the buckets as labels.
_BOUNDS = [*map(str, BOUNDS_S), "+Inf"]

#: The kinds of incidents. Each is told from 0 on: to Prometheus' `increase` a counter that appears
#: with its first incidents has not increased.
INCIDENTS = (
    *("bad_message", "bad_reply_to", "cancelled", "dead_letter", "deaf", "dropped", "expired"),
    *("handler_timeout", "inbox_error", "inbox_lost", "inbox_refused", "intake_error"),
    *("not_handed_over", "probe_file", "rejected", "reply_lost", "run_left_out", "spill_error"),
    *("spill_failed", "taken_over", "unknown_action", "worker_died"),
)


class ServiceCollector(Collector):
    """Turns what a service tells of itself into metrics.

    Args:
        describe: What it is and has done; safe from any thread.
        look: How it is; safe from any thread.
        stored: How many messages are in its inbox and among its dead letters; None if it has no
            inbox, or the server does not tell.
    """

    def __init__(
        self,
        describe: Callable[[], Replica],
        look: Callable[[], Vitals],
        stored: Callable[[], tuple[int, int] | None],
    ) -> None:
        self._describe = describe
        self._look = look
        self._stored = stored

    def collect(self) -> Iterable[Metric]:
        """Look at it now."""
        replica, vitals = self._describe(), self._look()
        families = Families("daebus_")
        for kind, handler, figures in _handlers(replica):
            labels = {"service": replica.service, "kind": kind, "handler": handler}
            families.counter("requests", "Messages that were handled.", figures.handled, **labels)
            families.counter(
                "request_errors", "Messages whose handling failed.", figures.errors, **labels
            )
            families.histogram(
                "request_duration_seconds",
                "From a message's arrival to the end of its handling.",
                _buckets(figures),
                figures.total_s,
                **labels,
            )
        _add_state(families, replica, vitals)
        _add_incidents(families, replica)
        _add_stored(families, replica.service, self._stored())
        return families


def _handlers(replica: Replica) -> Iterable[tuple[str, str, Figures]]:
    """Kind, name and figures of all handlers, also of those that have handled nothing yet."""
    for kind, names, figures in (
        ("action", replica.actions, replica.figures),
        ("channel", replica.channels, replica.listened),
    ):
        for name in sorted({*names, *figures}):
            yield kind, name, figures.get(name) or Figures()


def _buckets(figures: Figures) -> list[tuple[str, int]]:
    """Upper bounds, and how many took no longer."""
    counts = [count for count, _ in zip_longest(figures.latency, range(BUCKETS), fillvalue=0)]
    return list(zip(_BOUNDS, accumulate(counts), strict=True))


def _add_state(families: Families, replica: Replica, vitals: Vitals) -> None:
    for name, text, value in (
        ("live", "Whether a restart would not help.", vitals.is_live),
        ("ready", "Whether it takes messages and gets on with them.", vitals.is_ready),
        ("requests_in_progress", "Messages in a handler now.", replica.in_progress),
        ("backlog_messages", "Messages that wait in memory.", replica.backlog),
        ("spilled_messages", "Messages that wait on disk.", replica.spilled),
        ("max_workers", "Messages that are handled at once in threads.", replica.max_workers),
        ("worker_processes", "Processes for handlers that ask for one.", replica.processes),
        ("start_time_seconds", "When it was started.", replica.started_at),
    ):
        families.gauge(name, text, value, service=replica.service)
    families.gauge(
        "info",
        "What it is; always 1.",
        1,
        service=replica.service,
        replica_id=replica.replica_id,
        version=replica.version,
        delivery=replica.delivery,
    )


def _add_incidents(families: Families, replica: Replica) -> None:
    families.counter(
        "connection_gaps",
        "How often the connection was lost, and messages may have been missed.",
        replica.gaps,
        service=replica.service,
    )
    for kind, count in {**dict.fromkeys(INCIDENTS, 0), **replica.incidents}.items():
        families.counter(
            "incidents", "What went wrong, by kind.", count, service=replica.service, kind=kind
        )
    for task, run in replica.tasks.items():
        labels = {"service": replica.service, "task": task}
        families.gauge(
            "task_last_start_seconds", "When a task was last started.", run.started_at, **labels
        )
        families.gauge(
            "task_failed", "Whether its last run failed.", run.error is not None, **labels
        )


def _add_stored(families: Families, service: str, stored: tuple[int, int] | None) -> None:
    if stored is None:
        return
    inbox, dead = stored
    families.gauge(
        "inbox_messages", "Messages in the inbox that all replicas share.", inbox, service=service
    )
    families.gauge("dead_letters", "Messages that failed too often.", dead, service=service)
