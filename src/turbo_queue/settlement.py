"""How a batch that was not finished goes back: as it is, with a failure more, or to the dead."""

from __future__ import annotations

import logging

from turbo_queue.batch_file import BatchFormat, Contents
from turbo_queue.errors import FolderFailed
from turbo_queue.folder import Folder, Held
from turbo_queue.states import State

logger = logging.getLogger(__name__)


def return_unharmed(folder: Folder, held: Held) -> None:
    """Make a chosen batch ready again; what was finished stays finished.

    Raises:
        FolderFailed: the system refuses; the batch is still held.
    """
    folder.move(held, State.READY)
    held.release()


def return_failed(folder: Folder, held: Held, failed: Contents, max_failures: int) -> State:
    """Make a chosen batch ready again with one failure more, or dead if that was the last one.

    Args:
        folder: Where it is.
        held: The batch's file.
        failed: What the batch holds from now on, this failure counted.
        max_failures: With so many failures it is dead.

    Returns:
        The state that it is in now.

    Raises:
        FolderFailed: the system refuses; the batch is still held.
    """
    state = State.DEAD if failed.failures >= max_failures else State.READY
    try:
        folder.rewrite(held, BatchFormat().write(failed))
    except FolderFailed as error:
        # A full disk has no room for the rewritten batch; giving it back needs none.
        logger.warning("a failure of %s is not counted: %s", held.name, error)
        state = State.READY
    folder.move(held, state)
    held.release()
    if state is State.DEAD:
        logger.error(
            "the batch %s failed %d times at its event %d and is dead: %s",
            held.name,
            failed.failures,
            failed.failed_at,
            failed.reason,
            extra={"event": "batch.dead", "batch": str(held.name)},
        )
    return state
