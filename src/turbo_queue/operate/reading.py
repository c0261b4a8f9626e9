"""The batches of a queue, read without taking them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from turbo_queue.batch_file import BatchFormat
from turbo_queue.codec import Decoder, codec_named
from turbo_queue.errors import BatchDamaged
from turbo_queue.names import BatchName
from turbo_queue.operate.options import folder_of
from turbo_queue.peeks import peek
from turbo_queue.queue import Queue
from turbo_queue.states import State


class SeenBatch(NamedTuple):
    """A batch as it was a moment ago.

    Args:
        name: The name of its file.
        events: Those that are not finished.
        damage: Why it cannot be read, if it cannot.
    """

    name: str
    events: list[Any]
    damage: str | None = None


def batches(queue: Queue, state: State) -> Iterator[SeenBatch]:
    """The batches in this state, oldest first; those that are taken meanwhile are left out.

    Raises:
        SettingsError: a batch's codec is one that this queue does not read.
        FolderFailed: the folder cannot be read.
    """
    folder = folder_of(queue)
    decoder = Decoder(codec_named(queue.settings.codec))
    batch_format = BatchFormat()
    for text in folder.names(state):
        name = BatchName.parse(text)
        data = peek(folder, name) if name else None
        if data is None:
            continue
        try:
            yield SeenBatch(text, batch_format.read(data).unfinished(decoder))
        except BatchDamaged as error:
            yield SeenBatch(text, [], error.reason)
