"""What a pipeline has done when it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from turbo_queue.pipeline.counts import Counts


class ExitCode(IntEnum):
    """How a program that ran a pipeline should end.

    Every event that was read is written, waits in the folder, or is among the dead letters,
    whatever the code; it says what somebody has to look at.
    """

    #: All was written; or a signal ended it, and what was not written waits for the next run.
    OK = 0
    #: Processes had to be killed at the end of the grace time: some events may be written twice.
    FORCED = 4
    #: The source has come to its end, and events of this run are among the dead letters, or in
    #: batches that are damaged.
    DEAD_LETTERS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pipeline has done.

    Args:
        counts: How many events it has handled in this run.
        has_ended: Whether the source has come to its end, and all that it gave is done with.
        was_forced: Whether processes had to be killed.
    """

    counts: Counts
    has_ended: bool
    was_forced: bool

    @property
    def exit_code(self) -> ExitCode:
        """How the program should end."""
        if self.was_forced:
            return ExitCode.FORCED
        if self.has_ended and (self.counts.dead or self.counts.damaged):
            return ExitCode.DEAD_LETTERS
        return ExitCode.OK
