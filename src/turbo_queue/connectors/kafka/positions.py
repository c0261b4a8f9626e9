"""How far each partition was read, how far that is safe on disk, and how far it is committed."""

from __future__ import annotations

from collections.abc import Iterable

#: A topic's name, and the number of the partition.
Partition = tuple[str, int]


class Positions:
    """The next offset of each partition of ours: read, safe, committed.

    Only what is safe is ever given out to be committed. What is taken away is forgotten.
    """

    def __init__(self) -> None:
        self._read: dict[Partition, int] = {}
        self._safe: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._owned: set[Partition] = set()

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """These are ours from now on."""
        self._owned.update(partitions)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These are no longer ours: what of them comes late is committed by nobody."""
        for partition in partitions:
            self._owned.discard(partition)
            for stage in (self._read, self._safe, self._committed):
                stage.pop(partition, None)

    def note_read(self, last: dict[Partition, int]) -> None:
        """These are the last offsets that were handed on."""
        for partition, offset in last.items():
            if partition in self._owned:
                self._read[partition] = offset + 1

    def all_is_safe(self) -> None:
        """All that was handed on is on disk."""
        self._safe.update(self._read)

    def note_committed(self, partition: Partition, offset: int) -> None:
        """The group knows it."""
        if partition in self._owned:
            self._committed[partition] = offset

    def uncommitted(self) -> dict[Partition, int]:
        """What is safe, and not yet known to the group."""
        return {
            partition: offset
            for partition, offset in self._safe.items()
            if self._committed.get(partition) != offset
        }
