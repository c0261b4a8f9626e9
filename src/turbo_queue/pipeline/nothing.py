"""A source with nothing in it: for a run that only does what waits already."""

from __future__ import annotations

from typing import Any

from turbo_queue.connectors.interface import Intake, Reader, Source
from turbo_queue.records import Record


class Nothing(Source):
    """Has ended; decodes what another source has given before.

    Args:
        source: That source.
    """

    def __init__(self, source: Source) -> None:
        self.instead_of = source

    def open(self, intake: Intake) -> Reader:  # noqa: ARG002 - there is nothing to take in
        """See `Source`."""
        return _NothingReader()

    def decode(self, value: Any) -> Any:
        """See `Source`."""
        return self.instead_of.decode(value)


class _NothingReader(Reader):
    def read(self, most: int, timeout_s: float) -> list[Record] | None:  # noqa: ARG002
        """See `Reader`."""
        return None
