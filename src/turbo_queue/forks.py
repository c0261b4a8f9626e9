"""What a child of `fork` must let go of: locks, buffered events and threads that are its parent's.

Each handle with such things tells it here; in a child `after_fork` is called before anything else.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

from turbo_queue.locks import close_inherited


class Handle(Protocol):
    """Something that must begin anew in a child of `fork`."""

    def after_fork(self) -> None:
        """Forget what is the parent's; its locked files are closed. Called in the child."""


_handles: WeakSet[Handle] = WeakSet()
_hooked = False


def watch(handle: Handle) -> None:
    """From now on call `handle.after_fork()` in each child of `fork`, as long as it lives."""
    global _hooked  # noqa: PLW0603 - the hook cannot be taken back, so it is set at first need
    _handles.add(handle)
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    close_inherited()
    for handle in list(_handles):
        handle.after_fork()
