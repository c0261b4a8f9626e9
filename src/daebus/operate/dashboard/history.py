"""What the charts of a page show that was opened just now: figures of the last minutes. Pure."""

from __future__ import annotations

from collections import deque

import msgspec

from daebus.operate.fleet.views import Fleet, PipelineView, QueueView

#: How many points are kept; there is one each second.
MOST_POINTS = 600

#: … and how many rows of figures altogether, each of some 50 bytes on its way to a page.
MOST_ROWS = 40_000


class Point(msgspec.Struct):
    """The figures of one moment, in rows.

    Args:
        at: the moment, in seconds since 1970.
        services: `[name, requests/s, errors/s, p50, p99]` of each service, times in milliseconds.
        queues: `[path, events in/s, events out/s]` of each queue and pipeline.
    """

    at: float
    services: list[tuple[str, float | None, float | None, float | None, float | None]]
    queues: list[tuple[str, float | None, float | None]]

    @classmethod
    def of(cls, fleet: Fleet) -> Point:
        """Those of one look; none of services while their server is away."""
        services = [] if fleet.trouble else fleet.services
        places: list[QueueView | PipelineView] = [*fleet.queues, *fleet.pipelines]
        return cls(
            fleet.at,
            [
                (one.service, one.requests_per_s, one.errors_per_s, one.p50_ms, one.p99_ms)
                for one in services
            ],
            [(one.path, one.in_per_s, one.out_per_s) for one in places],
        )

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.services) + len(self.queues)


class History:
    """The last points; the oldest are forgotten when there are too many."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque()
        self._rows = 0

    def add(self, point: Point) -> None:
        """Keep a point."""
        self._points.append(point)
        self._rows += point.rows
        while len(self._points) > MOST_POINTS or self._rows > MOST_ROWS:
            self._rows -= self._points.popleft().rows

    def points(self) -> list[Point]:
        """Oldest first."""
        return list(self._points)
