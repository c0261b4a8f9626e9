"""A message that waited on disk, while it is in hand; its block is removed with its last one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from daebus.service.parcels import Parcel


class Block:
    """Messages that lie on disk together.

    Args:
        count: how many.
        on_settled: called once, when none of them is needed on disk any more.
        on_refused: called with the number of one that can never be handled, and why.
    """

    def __init__(
        self, count: int, on_settled: Callable[[], None], on_refused: Callable[[int, str], bool]
    ) -> None:
        self._open = set(range(count))
        self._on_settled = on_settled
        self._on_refused = on_refused
        self._lock = threading.Lock()

    def is_settled(self, number: int) -> bool:
        """Whether this one is not needed there any more."""
        return number not in self._open

    def settle(self, number: int) -> None:
        """This one is not; it may have been so before."""
        with self._lock:
            if number not in self._open:
                return
            self._open.remove(number)
            if self._open:
                return
        self._on_settled()

    def refuse(self, number: int, reason: str) -> None:
        """This one can never be handled; if it cannot be kept elsewhere, it stays."""
        if not self.is_settled(number) and self._on_refused(number, reason):
            self.settle(number)


class Spilled:
    """The `Delivery` of one of them.

    Args:
        block: where it lies.
        number: which one it is there.
        parcel: what lies there.
    """

    __slots__ = ("_block", "_is_given_back", "_number", "count", "message_id")

    #: It need not be kept by its runner, too: it is on disk until it is finished.
    is_stored = True

    def __init__(self, block: Block, number: int, parcel: Parcel) -> None:
        self._block = block
        self._number = number
        self._is_given_back = False
        self.message_id = parcel.message_id or ""
        self.count = parcel.delivery_count

    def finished(self, failure: str | None) -> None:  # noqa: ARG002 - it is not tried again
        """See `Delivery`."""
        if not self._is_given_back:
            self._block.settle(self._number)

    def refused(self, reason: str) -> None:
        """See `Delivery`."""
        self._block.refuse(self._number, reason)

    def given_back(self) -> None:
        """See `Delivery`."""
        self._is_given_back = True

    def moved(self) -> None:
        """It waits elsewhere on disk now."""
        self._block.settle(self._number)

    @property
    def is_settled(self) -> bool:
        """Whether it was finished, or waits elsewhere."""
        return self._block.is_settled(self._number)
