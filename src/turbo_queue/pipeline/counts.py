"""How many events a running pipeline has handled so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """A look at a pipeline, or what it has done in the end.

    Args:
        read: Events that were read from the source.
        handled: Events that the work is done with, or that will not be tried again.
        written: Events that the sink has taken for good.
        retried: Events that failed and were put back to be tried again.
        dead: Events that were put among the dead letters.
        waiting: Events that are in the pipeline's folder, and not among the dead letters.
        restarts: Processes that ended unasked and were started again.
        damaged: Files that were set aside because they are damaged batches, or none.
    """

    read: int = 0
    handled: int = 0
    written: int = 0
    retried: int = 0
    dead: int = 0
    waiting: int = 0
    restarts: int = 0
    damaged: int = 0
