"""How much the gateway takes on, and how it refuses what is too much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from daebus.operate.web.http_errors import Problem

#: What is told to those whose requests the end of the gateway cuts off.
STOPPING = Problem(503, "stopping", "The gateway stops; the request was cancelled")


class Refused(Exception):
    """A request is answered with a problem instead."""

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        self.problem = problem
        self.headers = headers or {}
        super().__init__(problem.title)


@dataclass
class Slots:
    """Counts what is under way; more than `most` is refused."""

    most: int
    what: str
    taken: int = field(default=0, init=False)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold one.

        Raises:
            Refused: all are taken.
        """
        if self.taken >= self.most:
            detail = f"{self.most:,} {self.what} are under way, which is as many as are allowed"
            raise Refused(Problem(503, "gateway_full", "The gateway is full", detail))
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one gateway allows."""

    max_body_bytes: int
    max_timeout_s: float
    max_requests: int
    max_streams: int
    max_sockets: int
