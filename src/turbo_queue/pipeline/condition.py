"""How a running pipeline is: its processes, and what keeps it from being live or ready. Pure.

What counts is that work gets on, not that a process exists: a reader that cannot reach its source
lives, and is of no use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from turbo_queue.pipeline.counts import Counts

#: A reader or a writer that has not got on for so long is in trouble, in seconds; they tell each
#: second that they do.
SILENT_S = 10.0

#: A supervisor that has not looked after its processes for so long is stuck, in seconds; it does
#: twice a second, and a folder on a slow disk may hold it up. The unit for systemd has it, too.
STUCK_S = 60.0


class Stage(StrEnum):
    """Where a pipeline is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes that do the same.

    Args:
        role: `reader`, `worker` or `writer`.
        up: How many are ready to work.
        wanted: How many there should be.
        silent_s: Seconds since one of them has told that it gets on; 0 for those that need not.
    """

    role: str
    up: int
    wanted: int
    silent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Condition:
    """How a pipeline is now.

    Args:
        stage: Where it is in its life.
        counts: What it has done.
        crews: Its processes.
        unwatched_s: Seconds since its supervisor has looked after them.
    """

    stage: Stage
    counts: Counts
    crews: tuple[Crew, ...]
    unwatched_s: float

    @property
    def why_not_live(self) -> list[str]:
        """Why it will not get on by itself; nothing while it may."""
        if self.unwatched_s < STUCK_S:
            return []
        return [f"the supervisor has been stuck for {self.unwatched_s:.0f} s"]

    @property
    def why_not_ready(self) -> list[str]:
        """Why it does not do its work now; nothing while it does.

        Example:
            >>> crews = (Crew("worker", 1, 2), Crew("writer", 1, 1, silent_s=12.0))
            >>> Condition(Stage.RUNNING, Counts(), crews, 0.0).why_not_ready
            ['1 of 2 worker processes is ready', 'the writer has been silent for 12 s; see its log']
        """
        if self.stage is not Stage.RUNNING:
            return [*self.why_not_live, self.stage.value]
        return [*self.why_not_live, *(text for crew in self.crews for text in _troubles(crew))]


def _troubles(crew: Crew) -> list[str]:
    if crew.up < crew.wanted:
        verb = "is" if crew.up == 1 else "are"
        return [f"{crew.up} of {crew.wanted} {crew.role} processes {verb} ready"]
    if crew.silent_s >= SILENT_S:
        return [f"the {crew.role} has been silent for {crew.silent_s:.0f} s; see its log"]
    return []
