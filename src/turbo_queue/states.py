"""The life of a batch as one table: its states, and who may move it from one to the next. Pure.

A batch file's name begins with its state, so a move is one `rename`, which is atomic.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a batch is in its life; the value is how its file's name begins."""

    LOADING = "loading"
    READY = "ready"
    CHOSEN = "chosen"
    DEAD = "dead"


#: Each move that exists, and what it is called. The lock on the file (see `locks`) must be held
#: for each of them, so only one process at a time can make one.
MOVES = {
    (State.LOADING, State.READY): "publish",  # its producer; recovery, if the file is whole
    (State.READY, State.CHOSEN): "claim",  # any consumer
    (State.CHOSEN, State.READY): "give back",  # its consumer; recovery, once that is dead
    (State.CHOSEN, State.DEAD): "bury",  # whoever counts the last failure
    (State.DEAD, State.READY): "retry",  # an operator
}


def check_move(before: State, after: State) -> None:
    """Refuse a move that the table does not have.

    Raises:
        ValueError: there is no such move; a mistake of the caller's.
    """
    if (before, after) not in MOVES:
        raise ValueError(f"a batch cannot go from {before.value} to {after.value}")
