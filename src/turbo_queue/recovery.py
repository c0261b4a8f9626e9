"""Takes over what dead owners left, and touches nothing of those who live. May run at any time.

Consumers run it on the side, one of them at a time, so a dead process's batches are back in the
queue within a second while anybody works.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

from turbo_queue.batch_file import BatchFormat
from turbo_queue.errors import BatchDamaged, FolderFailed, NameTaken, reporting
from turbo_queue.folder import Folder, Held
from turbo_queue.locks import lock, open_to_lock, release
from turbo_queue.names import BatchName
from turbo_queue.owners import settle_dead
from turbo_queue.settlement import return_failed
from turbo_queue.states import State

logger = logging.getLogger(__name__)

#: After so long, recovery does not wait for whoever has its turn: SIGSTOP may have stopped it.
STOPPED_AFTER_S = 5.0

#: How often the folder is searched for dead owners' batches, by all consumers together. A batch
#: is to be back within a second.
RECOVERY_EVERY_S = 0.5


@dataclass(slots=True)
class Recovered:
    """What a recovery did.

    Args:
        given_back: Batches of dead consumers that are ready again.
        published: Batches of dead producers that were whole and are ready now.
        buried: Batches whose consumers died too often; they are among the dead ones.
        set_aside: Files that are no batches; they are in `bad/`.
    """

    given_back: int = 0
    published: int = 0
    buried: int = 0
    set_aside: int = 0

    def __bool__(self) -> bool:
        return any((self.given_back, self.published, self.buried, self.set_aside))


def recover(folder: Folder, batch_format: BatchFormat, max_failures: int) -> Recovered:
    """Take over all that dead owners left. What the system refuses is logged, and left for later.

    Raises:
        FolderFailed: the folder cannot be read.
    """
    recovered = Recovered()
    for text in folder.names(State.CHOSEN, State.LOADING):
        try:
            _recover_file(folder, text, batch_format, max_failures, recovered)
        except FolderFailed as error:
            logger.warning("%s is not recovered yet: %s", text, error)
    folder.sweep()
    settle_dead(folder)
    if recovered:
        logger.info("recovered %s", recovered, extra={"event": "queue.recovered"})
    return recovered


def recover_in_turn(folder: Folder, batch_format: BatchFormat, max_failures: int) -> Recovered:
    """Recover, unless somebody else does, or did so a moment ago.

    Raises:
        FolderFailed: the system refuses.
    """
    with reporting("taking recovery's turn", folder.recovery):
        turn = open_to_lock(folder.recovery, os.O_RDWR | os.O_CREAT)
    try:
        # A clock that was set back gives a negative age, which is no reason to wait for it.
        age_s = time.time() - os.fstat(turn).st_mtime
        if 0 <= age_s < RECOVERY_EVERY_S:
            return Recovered()
        if not lock(turn) and 0 <= age_s < STOPPED_AFTER_S:
            return Recovered()
        os.utime(turn)
        return recover(folder, batch_format, max_failures)
    finally:
        release(turn)


def _recover_file(
    folder: Folder,
    text: str,
    batch_format: BatchFormat,
    max_failures: int,
    recovered: Recovered,
) -> None:
    name = BatchName.parse(text)
    if name is None:
        folder.set_aside(text, "its name is not that of a batch")
        recovered.set_aside += 1
        return
    held = folder.own(name)
    if held is None:
        return
    try:
        if name.state is State.CHOSEN:
            _take_over(folder, held, batch_format, max_failures, recovered)
        else:
            _salvage(folder, held, batch_format, recovered)
    except (BatchDamaged, NameTaken) as error:
        folder.set_aside(str(held.name), f"a process died while it had this: {error}")
        recovered.set_aside += 1
    finally:
        held.release()


def _take_over(
    folder: Folder,
    held: Held,
    batch_format: BatchFormat,
    max_failures: int,
    recovered: Recovered,
) -> None:
    """Give back the batch of a dead consumer, or bury it if it has killed too many."""
    contents = batch_format.read(folder.read(held))
    if contents.done == contents.events:
        folder.remove(held)  # Its consumer died between the last event and the removal.
        return
    failed = contents.failed(contents.done, f"its consumer died at event {contents.done}")
    if return_failed(folder, held, failed, max_failures) is State.DEAD:
        recovered.buried += 1
    else:
        recovered.given_back += 1


def _salvage(folder: Folder, held: Held, batch_format: BatchFormat, recovered: Recovered) -> None:
    """Publish the batch of a dead producer if it was written whole, though not made ready yet."""
    data = folder.read(held)
    if not data:
        folder.remove(held)
        return
    batch_format.read(data)
    folder.move(held, State.READY)
    recovered.published += 1
