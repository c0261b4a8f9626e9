"""What failed in a pipeline, in the shape of a service's dead letters; only to be read.

To try it again takes the pipeline's work, so that is `turbo-queue run FILE --retry-dead`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from daebus.errors import DaebusError
from daebus.operate.letters import Letter, Message
from turbo_queue import Queue, TurboQueueError

#: How many are read, oldest first: there may be millions.
MOST_EVENTS = 1_000

_HEADERS = "turbo-queue-"


@dataclass(frozen=True)
class FailedEvents:
    """The dead letters of a pipeline; the id of each is its place among them.

    Args:
        path: the pipeline's folder.
    """

    path: Path

    def __iter__(self) -> Iterator[Letter]:
        """Oldest first.

        Raises:
            DaebusError: the disk refuses.
        """
        try:
            events = Queue(self.path / "dead", codec="record").peek()
            for number, record in enumerate(islice(events, MOST_EVENTS)):
                yield _letter(str(number), record)
        except (TurboQueueError, OSError) as error:
            raise DaebusError(f"the pipeline's dead letters cannot be read: {error}") from None

    def find(self, letter_id: str) -> Letter | None:
        """The one with this id; None if there is none.

        Raises:
            DaebusError: the disk refuses.
        """
        return next((letter for letter in self if letter.letter_id == letter_id), None)


def _letter(letter_id: str, record: Any) -> Letter:
    """A letter of a `Record`, whose headers say why it failed (docs/reference/pipeline.md)."""
    said = {
        name.removeprefix(_HEADERS): value.decode(errors="replace")
        for name, value in record.headers
        if name.startswith(_HEADERS) and isinstance(value, bytes)
    }
    attempts = said.get("attempts", "")
    return Letter(
        letter_id,
        "pipeline",
        said.get("error", ""),
        int(attempts) if attempts.isdecimal() else 0,
        _seconds(said.get("failed-at", "")),
        [Message(_data(record.value), record.origin or None, "")],
    )


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _data(value: Any) -> bytes:
    return value if isinstance(value, bytes) else msgspec.json.encode(value)
