"""What both ends of a queue have open as long as they live: two bells and a sign of life."""

from __future__ import annotations

from contextlib import ExitStack

from turbo_queue.bells import Bell
from turbo_queue.folder import Folder
from turbo_queue.owners import Owner


def open_end(folder: Folder, kind: str) -> tuple[Bell, Bell, Owner]:
    """Open what a producer or consumer needs; nothing stays open if something is refused.

    Args:
        folder: Whose end.
        kind: `PRODUCER` or `CONSUMER`.

    Returns:
        The bell of those who wait for batches, that of those who wait for room, and the sign of
        life.

    Raises:
        FolderFailed: the system refuses one of them.
    """
    with ExitStack() as undo:
        ready = folder.bell("ready")
        undo.callback(ready.close)
        room = folder.bell("room")
        undo.callback(room.close)
        owner = Owner(folder, kind)
        undo.pop_all()
    return ready, room, owner
